"""Client: what can be asked of runs from outside; every verb of the engine but those that work.

Rules: arguments are checked before anything is written; what is acknowledged is durable; what
this process did is told to its own workers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, overload

import attrs

from ...codec.records import entry_to_record
from ...errors import DuplicateRunError, DurableError
from ...kernel.policy import Duration
from ...store import CreateResult, NewRun, RunRecord
from ...workflow.definition import Workflow
from .. import arguments
from ..clock import time_ordered_id
from ..retention import BATCH, prune
from .creating import Creating
from .forking import inherited
from .gathering import Gathering
from .messaging import Messaging
from .retrying import retrying
from .run import Run
from .starting import Start, check_joined, definition_of, new_run, start_of

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

BATCH_MAX = 100_000
"""Runs that ``prune`` removes in one transaction, at most."""


class Client(Messaging):
    """The verbs on runs."""

    _creating: Creating
    _gathering: Gathering[NewRun, CreateResult]

    # --- starting ------------------------------------------------------------------------------

    @overload
    async def start(
        self,
        workflow: Workflow[InputT, ResultT],
        input: InputT | None = None,
        *,
        id: str | None = None,
        conn: Any = None,
        queue: str = "default",
        priority: int = 0,
        delay: Duration | None = None,
        deadline: datetime | Duration | None = None,
        attributes: Mapping[str, Any] | None = None,
        on_duplicate: Literal["join", "reject"] = "join",
    ) -> Run[ResultT]: ...
    @overload
    async def start(
        self,
        workflow: str,
        input: Any = None,
        *,
        id: str | None = None,
        conn: Any = None,
        queue: str = "default",
        priority: int = 0,
        delay: Duration | None = None,
        deadline: datetime | Duration | None = None,
        attributes: Mapping[str, Any] | None = None,
        on_duplicate: Literal["join", "reject"] = "join",
    ) -> Run[Any]: ...
    async def start(
        self,
        workflow: Any,
        input: Any = None,
        *,
        id: str | None = None,
        conn: Any = None,
        queue: str = "default",
        priority: int = 0,
        delay: Duration | None = None,
        deadline: datetime | Duration | None = None,
        attributes: Mapping[str, Any] | None = None,
        on_duplicate: Literal["join", "reject"] = "join",
    ) -> Run[Any]:
        """Start a run of a workflow (or of the version listed last of this name).

        ``id`` is the run's id and the start's idempotency key: a second start with it joins the
        run that is there, or raises ``DuplicateRunError`` if workflow or input differ (or always,
        with ``on_duplicate="reject"``). ``delay`` is a timedelta or seconds; ``deadline`` a
        duration from now or an aware datetime, after which the run fails. Higher ``priority``
        first. ``attributes`` are scalars to find runs by. With ``conn`` the start is part of the
        caller's transaction.

        Raises ``WorkflowNotRegisteredError``, ``EncodingError``, ``LimitExceededError``,
        ``DuplicateRunError``, ``StoreUnavailableError``.
        """
        start = Start(
            workflow,
            input,
            id=id,
            queue=queue,
            priority=priority,
            delay=delay,
            deadline=deadline,
            attributes=attributes,
            on_duplicate=on_duplicate,
        )
        return (await self._start([start], conn))[0]

    async def start_many(
        self, starts: Iterable[Start | tuple[Any, Any]], *, conn: Any = None
    ) -> list[Run[Any]]:
        """Start many runs in one commit: ``Start(workflow, input, id=...)`` objects or
        (workflow, input) pairs. Raises as ``start`` does; what was joined wrongly is found out
        after the commit, when the other runs are started."""
        if not isinstance(starts, Iterable):
            raise DurableError(
                "starts must be a list of Start objects or (workflow, input) pairs, "
                f"not {type(starts).__name__}"
            )
        return await self._start([start_of(given) for given in starts], conn)

    async def _start(self, starts: list[Start], conn: Any) -> list[Run[Any]]:
        shared = self._check()
        news = []
        for start in starts:
            definition = definition_of(start.workflow, shared.registry)
            run_id = arguments.optional_text(start.id, what="id", limit=shared.limits.name)
            news.append(
                new_run(
                    start,
                    definition,
                    run_id=self._new_id() if run_id is None else run_id,
                    now_ms=shared.clock.now_ms(),
                    codec=shared.codec,
                    limits=shared.limits,
                )
            )
        if not news:
            return []
        may_join = all(start.on_duplicate == "join" for start in starts)
        results = await self._create(news, conn, may_join=may_join)
        for start, new, result in zip(starts, news, results, strict=True):
            check_joined(start, new, result)
        return [Run(new.run_id, self) for new in news]

    async def _create(
        self, news: list[NewRun], conn: Any, *, may_join: bool
    ) -> Sequence[CreateResult]:
        """In the caller's transaction, or with the other starts of this moment, or by itself:
        whether a run was there before can only be told by the first try."""
        shared = self._shared
        if conn is not None:
            results = await shared.store.create(news, conn=conn)
            self._creating.tell(results)
            return results
        if may_join and len(news) == 1:
            return [await self._gathering.ask(news[0])]
        return await retrying(
            lambda: self._creating.create_to_the_end(news), shared.host.entropy, repeatable=may_join
        )

    def _new_id(self) -> str:
        return time_ordered_id(self._shared.clock.now_ms(), self._shared.host.entropy)

    def run(self, run_id: str) -> Run[Any]:
        """A handle on the run with this id, which need not be there; no IO."""
        return Run(self._run_id(run_id), self)

    # --- forking -------------------------------------------------------------------------------

    async def fork(self, run_id: str, *, from_step: str, id: str | None = None) -> Run[Any]:
        """Start a new run that has done what this one had when it came to ``from_step`` (a step's
        name or a unit's path). What it inherits it reads, and never undoes.

        Raises ``RunNotFoundError``, ``DuplicateRunError``, and ``DurableError`` when the run has
        not come to that step.
        """
        shared = self._check()
        run_id = self._run_id(run_id)
        limit = shared.limits.name
        from_step = arguments.text(from_step, what="from_step", limit=10 * limit)
        fork_id = arguments.optional_text(id, what="id", limit=limit) or self._new_id()
        record = await self._record(run_id)
        entries = inherited(run_id, await self._entries(record), from_step)
        known = self._reader.definition(record)
        new = attrs.evolve(
            _copy(record, fork_id),
            fingerprint=record.fingerprint if known is None else known.fingerprint,
            entries=tuple(map(entry_to_record, entries)),
        )
        (result,) = await shared.store.create([new])
        if not result.created:
            raise DuplicateRunError(
                f"run {fork_id!r} exists already, so it cannot be the id of a fork; "
                "give another id, or none"
            )
        shared.local.runs_are_due()
        return Run(fork_id, self)

    # --- removing ------------------------------------------------------------------------------

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | Iterable[str] | None = None,
        batch: int = BATCH,
    ) -> int:
        """Remove runs that ended longer than ``older_than`` ago (a timedelta or seconds, by the
        store's clock), with all that is known of them; how many. ``status``: only those that
        ended so, one status or several. ``batch``: how many in one transaction; in between,
        others write.

        A child stays as long as its parent, so nothing is removed that a live run may need. The
        ids are free again: to start a removed run's id is to start a new run, not to join it.
        Raises ``StoreUnavailableError``; what was removed until then, is.
        """
        shared = self._check()
        older_than_ms = arguments.milliseconds(older_than, what="older_than")
        return await prune(
            shared.store,
            timedelta(milliseconds=older_than_ms),
            arguments.ended_statuses(status),
            arguments.whole(batch, what="batch", least=1, most=BATCH_MAX),
        )


def _copy(record: RunRecord, run_id: str) -> NewRun:
    return NewRun(
        run_id=run_id,
        workflow=record.workflow,
        version=record.version,
        fingerprint=record.fingerprint,
        queue=record.queue,
        input=record.input,
        digest=record.digest,
        priority=record.priority,
        attributes=record.attributes,
    )
