"""Messaging: what can be sent to runs from outside, and how it is delivered.

Rules: arguments are checked before anything is written; what is acknowledged is durable; messages
sent at the same time share a transaction, and what this process delivered is told to its own
workers at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...codec.payload import ANY
from ...codec.records import facts_to_text
from ...errors import EncodingError, LimitExceededError, RunFinishedError, StaleResumeError
from ...kernel.event import MessageKind
from ...kernel.run import RunStatus
from ...kernel.value import Payload
from ...store import DeliverVerdict, Message, RunRecord
from ...workflow.loose import codec_of
from .. import arguments
from ..shared import Shared
from .delivering import Delivering
from .gathering import Gathering
from .given import encode_given
from .info import waits_of
from .reading import Reading, not_found

SPARE_INBOX = 1_000
"""How many messages of operators fit into an inbox that is full of signals."""


class Outbox:
    """Delivers messages, each with others of its kind: one gathering for each inbox limit, and for
    those that may be sent again in doubt and those that may not. Messages with a token wait for
    their run where that is locked, so they are gathered by run: none waits for another's."""

    def __init__(self, shared: Shared) -> None:
        self._store = shared.store
        self._entropy = shared.host.entropy
        self._delivering = Delivering(shared)
        self._groups: dict[tuple[int, bool, str], Gathering[Message, DeliverVerdict]] = {}
        self._looks: Gathering[str, RunRecord | None] = Gathering(self._read, entropy=self._entropy)

    async def look(self, run_id: str) -> RunRecord | None:
        """The record of a run, for who must know it to write to it. Looks are gathered too: the
        answers come in the order of the questions, so messages keep theirs."""
        return await self._looks.ask(run_id)

    async def deliver(self, message: Message, inbox_limit: int) -> DeliverVerdict:
        """As ``Store.deliver`` does it; workers are told, whether or not the sender waits on."""
        waits_for = "" if message.token is None else message.run_id
        key = (inbox_limit, _repeatable(message), waits_for)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Gathering(
                partial(self._delivering.deliver, inbox_limit=inbox_limit),
                repeatable=_repeatable(message),
                entropy=self._entropy,
            )
        try:
            return await group.ask(message)
        finally:
            if waits_for and group.idle:
                self._groups.pop(key, None)

    async def close(self) -> None:
        """Return when all is answered, as ``Gathering.close`` does."""
        groups = self._groups.values()
        await asyncio.gather(self._looks.close(), *(group.close() for group in groups))
        await self._delivering.close()

    async def _read(self, run_ids: Sequence[str]) -> list[RunRecord | None]:
        found = await self._store.get(list(dict.fromkeys(run_ids)))
        return [found.get(run_id) for run_id in run_ids]


class Messaging(Reading):
    """The verbs that send a message to a run."""

    _outbox: Outbox

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
            record = await self._outbox.look(run_id)
            definition = None if record is None else self._reader.definition(record)
            codec = codec_of(definition, shared.codec)
            return codec.encode(data, limit=limit, what=what)

    async def _signal_payload(self, run_id: str, name: str, payload: Any, conn: Any) -> Payload:
        """Encoded by the type the run's workflow waits for, where any workflow here names one."""
        shared = self._shared
        what, limit = f"the payload of signal {name!r}", shared.limits.signal
        type_ = ANY
        if any(definition.signal_type(name) is not ANY for definition in shared.registry):
            record = await self._outbox.look(run_id)
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
        if conn is None:
            return await self._outbox.deliver(message, inbox_limit)
        try:
            (verdict,) = await shared.store.deliver([message], inbox_limit=inbox_limit, conn=conn)
        finally:
            shared.local.delivered(message.run_id)  # whatever came of it, it may have been
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


def _repeatable(message: Message) -> bool:
    """Whether delivering it twice is delivering it once: by a key, or by what it asks for."""
    keyed = message.dedupe is not None or message.token is not None
    return keyed or message.kind in (MessageKind.CANCEL, MessageKind.PAUSE, MessageKind.UNPAUSE)


def _finished(run_id: str, refused: str) -> RunFinishedError:
    return RunFinishedError(f"run {run_id!r} has ended already, so it {refused}")
