"""Unreadable: what can be done with a run whose stored journal or messages cannot be decoded.

It is held for an operator (``undecodable``) and tried again now and then, so that a worker that can
read it may go on; and it can be terminated, for which its journal need not be read. Its children
are not known then, and go on.
"""

from __future__ import annotations

from ...codec.records import waits_from_text
from ...errors import DurableError
from ...kernel import journal as j
from ...kernel.event import MessageArrived, MessageKind
from ...kernel.failure import Failure, failure_to_plain
from ...kernel.limits import Limits
from ...kernel.messages import unattended
from ...kernel.outcome import Outgoing, Transition
from ...kernel.parking import LIFTED, UNDECODABLE, park
from ...kernel.run import RunContext, RunStatus
from ...store import ClaimedRun, Commit
from ..mapping import commit_of, message_arrived, newest, run_context


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
