"""Client: what can be asked of runs from outside; every verb of the engine but those that work.

Rules: arguments are checked before anything is written; what is acknowledged is durable; what
this process did is told to its own workers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, overload

import attrs

from ..codec.payload import ANY
from ..codec.records import entry_to_record, facts_to_text
from ..errors import (
    DuplicateRunError,
    DurableError,
    EncodingError,
    LimitExceededError,
    RunFinishedError,
    StaleResumeError,
)
from ..kernel.event import MessageKind
from ..kernel.policy import Duration
from ..kernel.run import RunStatus
from ..kernel.value import Payload
from ..store import CreateResult, DeliverVerdict, Message, NewRun, RunRecord
from ..workflow.definition import Workflow
from ..workflow.loose import codec_of
from . import arguments
from .clock import time_ordered_id
from .forking import inherited
from .gathering import Gathering
from .given import encode_given
from .info import waits_of
from .observer import RunStarted
from .reading import Reading, not_found
from .retention import BATCH, prune
from .retrying import retrying
from .run import Run
from .starting import Start, check_joined, definition_of, new_run, start_of

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

BATCH_MAX = 100_000
SPARE_INBOX = 1_000
"""How many messages of operators fit into an inbox that is full of signals."""


class Client(Reading):
    """The verbs on runs."""

    _gathering: Gathering

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
        try:
            results = await self._create(news, conn, may_join=may_join)
        except BaseException:
            shared.local.runs_are_due()  # cancelled or not, they may have been created
            raise
        if any(result.created for result in results):
            shared.local.runs_are_due()
            if conn is None:
                self._ends.created(
                    new.run_id for new, one in zip(news, results, strict=True) if one.created
                )
        if shared.observers:
            for new, result in zip(news, results, strict=True):
                if result.created:
                    event = RunStarted(run_id=new.run_id, workflow=new.workflow)
                    shared.observers.tell(event)
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
            return await shared.store.create(news, conn=conn)
        if may_join and len(news) == 1:
            return [await self._gathering.create(news[0])]
        return await retrying(
            lambda: shared.store.create(news), shared.host.entropy, repeatable=may_join
        )

    def _new_id(self) -> str:
        return time_ordered_id(self._shared.clock.now_ms(), self._shared.host.entropy)

    def run(self, run_id: str) -> Run[Any]:
        """A handle on the run with this id, which need not be there; no IO."""
        return Run(self._run_id(run_id), self)

    # --- messages ------------------------------------------------------------------------------

    async def signal(
        self,
        run_id: str,
        name: str,
        payload: Any = None,
        *,
        dedupe_id: str | None = None,
        conn: Any = None,
    ) -> None:
        """Send a signal; when this returns, it is durable. It may come before the run waits.

        A second signal of this name with an equal ``dedupe_id`` changes nothing. Raises
        ``RunNotFoundError``, ``RunFinishedError``, ``EncodingError`` for a payload that does not
        fit the type the workflow waits for, ``LimitExceededError`` for a full inbox.
        """
        shared = self._check()
        run_id = self._run_id(run_id)
        limit = shared.limits.name
        name = arguments.text(name, what="the name of the signal", limit=limit)
        dedupe = arguments.optional_text(dedupe_id, what="dedupe_id", limit=limit)
        message = Message(
            run_id=run_id,
            kind=MessageKind.SIGNAL,
            name=name,
            payload=await self._signal_payload(run_id, name, payload, conn),
            dedupe=None if dedupe is None else f"signal:{name}:{dedupe}",
        )
        self._refuse_unless(await self._deliver(message, conn=conn), run_id, "takes no signal")

    async def _resume_payload(self, run_id: str, data: Any) -> Payload:
        """Plain, or with the classes that the run's workflow knows."""
        return await self._untyped_payload(run_id, data, "the data of resume")

    async def _untyped_payload(self, run_id: str, data: Any, what: str) -> Payload:
        shared = self._shared
        limit = shared.limits.signal
        try:
            return shared.codec.encode(data, limit=limit, what=what)
        except EncodingError:
            record = await self._find(run_id)
            definition = None if record is None else self._reader.definition(record)
            codec = codec_of(definition, shared.codec)
            return codec.encode(data, limit=limit, what=what)

    async def _signal_payload(self, run_id: str, name: str, payload: Any, conn: Any) -> Payload:
        """Encoded by the type the run's workflow waits for, where any workflow here names one."""
        shared = self._shared
        what, limit = f"the payload of signal {name!r}", shared.limits.signal
        type_ = ANY
        if any(definition.signal_type(name) is not ANY for definition in shared.registry):
            record = await self._find(run_id)
            definition = None if record is None else self._reader.definition(record)
            if definition is not None:
                type_ = definition.signal_type(name)
        if type_ is ANY:
            return await self._untyped_payload(run_id, payload, what)
        return encode_given(shared.codec, payload, type_, limit=limit, what=what)

    async def resume(self, run_id: str, data: Any = None, *, token: str | None = None) -> None:
        """Resume a suspended handler with ``data``.

        ``token`` stands in ``RunInfo.waiting_for``; without it exactly one suspension must be
        open. Resuming twice with equal data is a success. Raises ``StaleResumeError``,
        ``RunNotFoundError``, ``RunFinishedError``, ``EncodingError``.
        """
        shared = self._check()
        run_id = self._run_id(run_id)
        limits = shared.limits
        payload = await self._resume_payload(run_id, data)
        if token is None:
            token = await self._only_token(run_id)
        else:
            token = arguments.text(token, what="token", limit=limits.name)
        message = Message(
            run_id=run_id,
            kind=MessageKind.RESUME,
            payload=payload,
            meta=facts_to_text({"token": token}),
            token=token,
        )
        verdict = await self._deliver(message, spare=SPARE_INBOX)
        if verdict in (DeliverVerdict.STALE, DeliverVerdict.CONFLICT):
            why = (
                "was used before, with other data"
                if verdict is DeliverVerdict.CONFLICT
                else "is not one of its open suspensions"
            )
            raise StaleResumeError(
                f"run {run_id!r} was not resumed: the token {why}; what is open stands in "
                "RunInfo.waiting_for"
            )
        self._refuse_unless(verdict, run_id, "cannot be resumed")

    async def _only_token(self, run_id: str) -> str:
        record = await self._record(run_id)
        if RunStatus(record.status).terminal:
            raise _finished(run_id, "cannot be resumed")
        tokens = [wait.token for wait in waits_of(record) if wait.token is not None]
        if len(tokens) != 1:
            raise StaleResumeError(
                f"run {run_id!r} has {len(tokens)} open suspensions, so token= must say which one "
                "is meant; tokens stand in RunInfo.waiting_for"
            )
        return tokens[0]

    async def cancel(
        self,
        run_id: str,
        *,
        mode: str = "compensate",
        reason: str | None = None,
        conn: Any = None,
    ) -> None:
        """Ask the run to end. ``"compensate"`` stops its handlers and undoes what was done;
        ``"terminate"`` ends it at once and undoes nothing. Its children are cancelled too.

        Cancelling again, or a run that has ended, changes nothing. Raises ``RunNotFoundError``.
        """
        limit = self._check().limits.name
        run_id = self._run_id(run_id)
        mode = arguments.choice(mode, ("compensate", "terminate"), what="mode")
        facts: dict[str, Any] = {"mode": mode}
        if reason is not None:
            facts["reason"] = arguments.text(reason, what="reason", limit=10 * limit)
        message = Message(
            run_id=run_id,
            kind=MessageKind.CANCEL,
            meta=facts_to_text(facts),
            anyone=mode == "terminate",
        )
        verdict = await self._deliver(message, spare=SPARE_INBOX, conn=conn)
        if verdict is not DeliverVerdict.FINISHED:
            self._refuse_unless(verdict, run_id, "cannot be cancelled")

    async def pause(self, run_id: str) -> None:
        """Start no new attempt; running ones may commit. Time goes on for timers and deadlines.

        Raises ``RunNotFoundError``, ``RunFinishedError``.
        """
        await self._operate(run_id, MessageKind.PAUSE, "cannot be paused")

    async def unpause(self, run_id: str) -> None:
        """Let a paused run go on. Raises ``RunNotFoundError``, ``RunFinishedError``."""
        await self._operate(run_id, MessageKind.UNPAUSE, "is not paused")

    async def _operate(self, run_id: str, kind: str, refused: str) -> None:
        self._check()
        run_id = self._run_id(run_id)
        message = Message(run_id=run_id, kind=kind, anyone=True)
        self._refuse_unless(await self._deliver(message, spare=SPARE_INBOX), run_id, refused)

    async def retry(self, run_id: str) -> None:
        """Let a failed or parked run go on at the unit that failed.

        A run that was rolled back does again what was undone; one whose rollback failed goes on
        with the rollback. Raises ``RunNotFoundError``, and ``RunFinishedError`` for a run that
        completed or was cancelled.
        """
        self._check()
        run_id = self._run_id(run_id)
        record = await self._record(run_id)
        if record.status in (RunStatus.COMPLETED.value, RunStatus.CANCELLED.value):
            raise RunFinishedError(
                f"run {run_id!r} is {record.status}; only failed and parked runs can be retried"
            )
        message = Message(run_id=run_id, kind=MessageKind.RETRY, reopens=True)
        verdict = await self._deliver(message, spare=SPARE_INBOX)
        self._refuse_unless(verdict, run_id, "cannot be retried")

    async def _deliver(
        self, message: Message, *, spare: int = 0, conn: Any = None
    ) -> DeliverVerdict:
        shared = self._check()
        inbox_limit = shared.limits.inbox + spare
        try:
            if conn is not None:
                (verdict,) = await shared.store.deliver(
                    [message], inbox_limit=inbox_limit, conn=conn
                )
            else:
                (verdict,) = await retrying(
                    lambda: shared.store.deliver([message], inbox_limit=inbox_limit),
                    shared.host.entropy,
                    repeatable=_repeatable(message),
                )
        except BaseException:
            shared.local.delivered(message.run_id)  # cancelled or not, it may have been
            raise
        if verdict is DeliverVerdict.DELIVERED:
            shared.local.delivered(message.run_id)
        return verdict

    def _refuse_unless(self, verdict: DeliverVerdict, run_id: str, refused: str) -> None:
        if verdict is DeliverVerdict.UNKNOWN:
            raise not_found(run_id)
        if verdict is DeliverVerdict.FINISHED:
            raise _finished(run_id, refused)
        if verdict is DeliverVerdict.FULL:
            raise LimitExceededError(
                f"the inbox of run {run_id!r} is full (Limits.inbox is "
                f"{self._shared.limits.inbox}): it takes signals slower than they come"
            )

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


def _repeatable(message: Message) -> bool:
    """Whether delivering it twice is delivering it once: by a key, or by what it asks for."""
    keyed = message.dedupe is not None or message.token is not None
    return keyed or message.kind in (MessageKind.CANCEL, MessageKind.PAUSE, MessageKind.UNPAUSE)


def _finished(run_id: str, refused: str) -> RunFinishedError:
    return RunFinishedError(f"run {run_id!r} has ended already, so it {refused}")
