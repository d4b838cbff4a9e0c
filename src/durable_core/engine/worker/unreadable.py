"""Unreadable: what can be done with a run whose stored journal or messages cannot be decoded.

It is parked (``undecodable``) and tried again now and then, so that a worker that can read it may
go on; and it can be terminated. Where only the values cannot be read, which another codec wrote,
the kernel does both (``read_by``). Where the journal cannot, it is done here; then the run's
children are not known, and go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NoReturn

from ...codec.payload import Codec, JsonCodec
from ...codec.records import waits_from_text
from ...errors import DurableError, EncodingError
from ...kernel import journal as j
from ...kernel.event import MessageArrived, MessageKind
from ...kernel.failure import Failure, failure_to_plain
from ...kernel.limits import Limits
from ...kernel.messages import unattended
from ...kernel.outcome import Outgoing, Transition
from ...kernel.parking import LIFTED, UNDECODABLE, park
from ...kernel.program import ProgramFactory, UnreadableError
from ...kernel.recorder import Recorder
from ...kernel.run import RunContext, RunStatus
from ...kernel.value import Payload
from ...store import ClaimedRun, Commit
from ..mapping import commit_of, message_arrived, newest, run_context


def read_by(
    codec: Codec, program: ProgramFactory, payloads: Iterable[Payload | None]
) -> ProgramFactory:
    """The program; or, where these were written with another codec, one that says so before any
    code of the user's runs, and fails on it. Of each encoding the first payload and the last are
    opened: a layer may be the same by name, and have another key."""
    first: dict[str, Payload] = {}
    last: dict[str, Payload] = {}
    for payload in payloads:
        if payload is not None:
            first.setdefault(payload.encoding, payload)
            last[payload.encoding] = payload
    if isinstance(codec, JsonCodec):
        first.pop(codec.encoding, None)
        last.pop(codec.encoding, None)
    try:
        for payload in (*first.values(), *last.values()):
            codec.assemble_list([payload])
    except EncodingError as error:
        return partial(_refuse, f"the run was written with another codec: {error}")
    return program


def _refuse(why: str, run: RunContext, recorder: Recorder) -> NoReturn:
    raise UnreadableError(why)


def held_or_terminated(
    claimed: ClaimedRun, error: DurableError, *, limits: Limits, now_ms: int
) -> Commit:
    """What to write of a run that was claimed and cannot be read. Its messages stay where they
    are, except by termination."""
    record = claimed.run
    seen = newest(claimed.inbox, 0)
    run = run_context(record, limits)
    told = _terminate(claimed)
    if told is None:
        transition = park(
            run,
            after_seq=record.entry_count,
            generation=record.generation,
            reason=UNDECODABLE,
            failure=Failure(type=type(error).__name__, message=str(error)),
            now_ms=now_ms,
            since_ms=_parked_since(record.waiting),
        )
    else:
        transition = _terminated(
            run,
            told,
            after_seq=record.entry_count,
            generation=record.generation,
            now_ms=now_ms,
        )
    return commit_of(transition, record, record.epoch, seen)


def _parked_since(waiting: str | None) -> int | None:
    try:
        waits = [wait for wait in waits_from_text(waiting) if wait.reason in LIFTED]
    except DurableError:
        return None
    return waits[0].since_ms if waits else None


def _terminate(claimed: ClaimedRun) -> MessageArrived | None:
    """The message that terminates the run, if it got one; others may be unreadable too."""
    for record in claimed.inbox:
        try:
            message = message_arrived(record)
        except DurableError:
            continue
        if message.kind == MessageKind.CANCEL and unattended(message):
            return message
    return None


def _terminated(
    run: RunContext, told: MessageArrived, *, after_seq: int, generation: int, now_ms: int
) -> Transition:
    reason = told.facts.get("reason")
    entry = j.RunCancelled(
        seq=after_seq + 1, at_ms=now_ms, reason=None if reason is None else str(reason)
    )
    return Transition(
        after_seq=after_seq,
        status=RunStatus.CANCELLED,
        generation=generation,
        entries=(entry,),
        consumed=(told.seq,),
        messages=_notice(run, generation),
        ended=True,
    )


def _notice(run: RunContext, generation: int) -> tuple[Outgoing, ...]:
    """Its parent, if there is one, waits for its end."""
    if run.parent_id is None or run.parent_unit is None:
        return ()
    failure = Failure(
        type="RunCancelled",
        message=f"child run {run.run_id!r} of workflow {run.workflow!r} was cancelled",
    )
    return (
        Outgoing(
            run_id=run.parent_id,
            kind=MessageKind.CHILD_ENDED,
            name=run.parent_unit,
            facts={
                "child_id": run.run_id,
                "status": RunStatus.CANCELLED.value,
                "failure": failure_to_plain(failure),
            },
            dedupe=f"{MessageKind.CHILD_ENDED}:{run.run_id}:{generation}",
        ),
    )
