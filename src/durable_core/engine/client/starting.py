"""Starting: the arguments of a start, checked, as a run to be created."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs

from ...codec.payload import Codec
from ...errors import DuplicateRunError, DurableError
from ...kernel.limits import NAME_LENGTH, Limits
from ...kernel.policy import Duration
from ...store import CreateResult, NewRun
from ...workflow.registry import Definition, Registry, input_digest
from .. import arguments
from .given import encode_given

ON_DUPLICATE = ("join", "reject")


@attrs.frozen(slots=True)
class Start:
    """One run to be started by ``engine.start_many``; the arguments of ``engine.start``."""

    workflow: Any
    input: Any = None
    id: str | None = attrs.field(default=None, kw_only=True)
    queue: str = attrs.field(default="default", kw_only=True)
    priority: int = attrs.field(default=0, kw_only=True)
    delay: Duration | None = attrs.field(default=None, kw_only=True)
    deadline: datetime | Duration | None = attrs.field(default=None, kw_only=True)
    attributes: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True)
    on_duplicate: str = attrs.field(default="join", kw_only=True)


def start_of(given: object) -> Start:
    """A ``Start``, or a (workflow, input) pair as one."""
    match given:
        case Start():
            return given
        case (workflow, input_):
            return Start(workflow, input_)
        case _:
            raise DurableError(
                "start_many takes Start(workflow, input, ...) objects or (workflow, input) "
                f"pairs, not {type(given).__name__}"
            )


def definition_of(workflow: object, registry: Registry) -> Definition:
    """The registered definition of a workflow, or of its name (then the version listed last).

    Raises ``WorkflowNotRegisteredError``, and ``DurableError`` for what is no workflow.
    """
    if isinstance(workflow, str):
        return registry.latest(arguments.text(workflow, what="workflow", limit=NAME_LENGTH))
    name, version = getattr(workflow, "name", None), getattr(workflow, "version", None)
    if not isinstance(name, str) or not isinstance(version, str):
        raise DurableError(
            f"workflow must be a Workflow or the name of one, not {type(workflow).__name__}"
        )
    return registry.get(name, version)


def new_run(
    start: Start,
    definition: Definition,
    *,
    run_id: str,
    now_ms: int,
    codec: Codec,
    limits: Limits,
) -> NewRun:
    """The run to be created. Raises ``DurableError``, ``EncodingError``, ``LimitExceededError``."""
    arguments.choice(start.on_duplicate, ON_DUPLICATE, what="on_duplicate")
    what = f"the input of workflow {definition.name!r}"
    payload = encode_given(codec, start.input, definition.input_type, limit=limits.input, what=what)
    return NewRun(
        run_id=run_id,
        workflow=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        queue=arguments.text(start.queue, what="queue", limit=limits.name),
        input=payload,
        digest=input_digest(codec, definition.name, payload),
        priority=arguments.whole(
            start.priority,
            what="priority",
            least=-arguments.PRIORITY_MAX,
            most=arguments.PRIORITY_MAX,
        ),
        delay_ms=0 if start.delay is None else arguments.milliseconds(start.delay, what="delay"),
        attributes=arguments.attributes(start.attributes, limit=limits.name),
        deadline_ms=_deadline_ms(start.deadline, now_ms),
    )


def _deadline_ms(deadline: object, now_ms: int) -> int | None:
    if deadline is None:
        return None
    if isinstance(deadline, timedelta | int | float):
        return now_ms + arguments.milliseconds(deadline, what="deadline")
    return arguments.moment_ms(deadline, what="deadline")


def check_joined(start: Start, new: NewRun, result: CreateResult) -> None:
    """Refuse a run that was there before where the caller wanted another.

    Raises ``DuplicateRunError``.
    """
    if result.created:
        return
    record = result.record
    if start.on_duplicate == "reject":
        raise DuplicateRunError(
            f"run {new.run_id!r} exists already (workflow {record.workflow!r}, "
            f"{record.status}), and on_duplicate is 'reject'"
        )
    if record.digest != new.digest:
        other = "another input" if record.workflow == new.workflow else "another workflow"
        raise DuplicateRunError(
            f"run {new.run_id!r} exists already, with {other} "
            f"(workflow {record.workflow!r}); an id stands for one workflow and one input"
        )
