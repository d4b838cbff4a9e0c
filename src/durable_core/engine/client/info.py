"""Info: runs, waits and journal entries as the public sees them, made from the store's records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ...codec.payload import ANY, Codec
from ...codec.records import failure_from_text, waits_from_text
from ...errors import EncodingError, RunCancelled, RunFailed
from ...kernel import journal as j
from ...kernel.failure import Failure
from ...kernel.fold import Fold
from ...kernel.ids import UnitKey
from ...kernel.run import RunContext, RunStatus, Waiting
from ...kernel.tables import UnitStatus
from ...kernel.value import Payload
from ...store import RunRecord
from ...workflow import loose
from ...workflow.registry import Definition, Registry
from ...workflow.results import result_of_run
from ..moments import moment


@attrs.frozen(slots=True, kw_only=True)
class Wait:
    """One thing a run waits for; what does not apply is None.

    ``kind`` is ``timer``, ``retry``, ``signal``, ``child``, ``resume`` or ``operator``. ``name``
    is the signal's, or the child run's id; ``reason`` why an operator is needed, or what failed;
    ``token`` what ``resume`` takes. Times are aware, in UTC.
    """

    kind: str
    name: str | None = None
    unit: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    token: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class RunInfo:
    """A run as it stands. Times are aware, in UTC.

    ``result`` is set for a completed run (not in listings: ask ``engine.get`` or
    ``run.result()``), ``failure`` for one that fails or has failed. ``attempt`` counts
    generations: 1, and one more for each ``retry`` of the ended run.
    """

    id: str
    workflow: str
    version: str
    status: str
    input: Any
    result: Any
    failure: Failure | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    waiting_for: tuple[Wait, ...]
    attempt: int
    parent_id: str | None
    queue: str
    priority: int
    attributes: Mapping[str, Any]
    deadline: datetime | None


@attrs.frozen(slots=True, kw_only=True)
class JournalEntry:
    """One fact of a run's journal, in commit order. ``str(unit)`` is the path as in ``ctx.unit``.

    ``kind`` is one word in the past tense, ``step`` the step's name, ``value`` what the entry
    carries, decoded, ``attempt`` the try it belongs to (None for what is no attempt).
    """

    seq: int
    unit: UnitKey
    kind: str
    step: str | None
    value: Any
    failure: Failure | None
    attempt: int | None
    at: datetime


class Reader:
    """Makes public shapes of records, by the definitions it knows."""

    def __init__(self, codec: Codec, registry: Registry) -> None:
        self._codec = codec
        self._registry = registry

    def info(self, record: RunRecord, result: Any = None) -> RunInfo:
        """The run as it stands. Raises ``EncodingError`` for an input nobody can read."""
        definition = self.definition(record)
        return RunInfo(
            id=record.run_id,
            workflow=record.workflow,
            version=record.version,
            status=record.status,
            input=self._decode(
                record.input, ANY if definition is None else definition.input_type, "the input"
            ),
            result=result,
            failure=None if record.failure is None else failure_from_text(record.failure),
            created_at=moment(record.created_at_ms),
            updated_at=moment(record.updated_at_ms),
            finished_at=_maybe(record.finished_at_ms),
            waiting_for=tuple(map(_wait, waits_of(record))),
            attempt=record.generation,
            parent_id=record.parent_id,
            queue=record.queue,
            priority=record.priority,
            attributes={name: json.loads(text) for name, text in record.attributes.items()},
            deadline=_maybe(record.deadline_ms),
        )

    def result(self, record: RunRecord | RunContext, entries: Iterable[j.Entry]) -> Any:
        """The result of a completed run. Raises ``EncodingError``."""
        definition = self.definition(record)
        if definition is None:
            return result_of_run(entries, self._codec)
        return result_of_run(
            entries,
            self._codec,
            result_type=definition.result_type,
            type_of=definition.unit_type,
        )

    def journal(self, record: RunRecord, entries: Sequence[j.Entry]) -> tuple[JournalEntry, ...]:
        """The whole journal. Raises ``EncodingError``."""
        definition = self.definition(record)
        type_of: Callable[[UnitKey], Any] = (
            (lambda unit: ANY) if definition is None else definition.unit_type
        )
        return tuple(self._entry(record, entry, entries, type_of) for entry in entries)

    def definition(self, record: RunRecord | RunContext) -> Definition | None:
        """The definition of the run, if it is known here."""
        return self._registry.find(record.workflow, record.version)

    def _entry(
        self,
        record: RunRecord,
        entry: j.Entry,
        entries: Sequence[j.Entry],
        type_of: Callable[[UnitKey], Any],
    ) -> JournalEntry:
        payload = getattr(entry, "payload", None)
        value = None
        if isinstance(entry, j.RunCompleted):
            value = self.result(record, entries[: entry.seq])
        elif payload is not None:
            typed = isinstance(entry, _TYPED)
            value = self._decode(
                payload, type_of(entry.unit) if typed else ANY, f"the value of {entry.unit}"
            )
        return JournalEntry(
            seq=entry.seq,
            unit=entry.unit,
            kind=entry.kind,
            step=entry.unit.step,
            value=value,
            failure=getattr(entry, "failure", None),
            attempt=getattr(entry, "attempt", None),
            at=moment(entry.at_ms),
        )

    def _decode(self, payload: Payload, type_: Any, what: str) -> Any:
        """By its type, or as plain JSON where that does not fit any more."""
        try:
            return loose.decode(self._codec, payload, type_, what=what)
        except EncodingError:
            if loose.is_untyped(type_):
                raise
            return self._codec.decode(payload, what=what)


_TYPED = (j.UnitCompleted, j.SignalConsumed, j.ChildCompleted, j.ItemsRecorded)


def waits_of(record: RunRecord) -> tuple[Waiting, ...]:
    """What the run waits for. While it is being worked on, only open suspensions count."""
    status = RunStatus(record.status)
    if status.terminal:
        return ()
    waits = waits_from_text(record.waiting)
    if status is RunStatus.RUNNING:
        return tuple(wait for wait in waits if wait.kind == "resume")
    return waits


def run_failed(record: RunRecord, entries: Iterable[j.Entry]) -> RunFailed:
    """The error for a run that ended failed, with what was undone and what was not."""
    fold = Fold.of(record.run_id, entries)
    ended = fold.ended
    failure = None if record.failure is None else failure_from_text(record.failure)
    not_compensated: tuple[str, ...] = ()
    if isinstance(ended, j.RunFailed):
        failure, not_compensated = ended.failure, ended.not_compensated
    compensated = tuple(
        str(unit) for unit, undo in fold.undos.items() if undo.status is UnitStatus.COMPLETED
    )
    return RunFailed(record.run_id, failure, compensated, not_compensated)


def run_cancelled(record: RunRecord, entries: Sequence[j.Entry]) -> RunCancelled:
    """The error for a run that ended cancelled."""
    last = entries[-1] if entries else None
    if not isinstance(last, j.RunCancelled):
        return RunCancelled(record.run_id)
    return RunCancelled(record.run_id, last.reason, last.not_compensated)


def _wait(waiting: Waiting) -> Wait:
    return Wait(
        kind=waiting.kind,
        name=waiting.name,
        unit=waiting.unit,
        since=moment(waiting.since_ms),
        until=_maybe(waiting.until_ms),
        reason=waiting.reason,
        token=waiting.token,
    )


def _maybe(ms: int | None) -> datetime | None:
    return None if ms is None else moment(ms)
