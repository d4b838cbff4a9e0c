"""Messages: what each kind does to a run, by table. Signals are not here: they wait for whoever
takes them (``decide``).

Each handler records what the message changes, or nothing: a message that came too late is
simply consumed. It answers with the unit to be looked at again, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import journal as j
from .draft import Draft
from .event import MessageArrived, MessageKind
from .failure import Failure, failure_from_plain
from .ids import UnitKey
from .outcome import AttemptKey
from .parking import LIFTED
from .tables import UnitStatus
from .value import NULL


def _resume(draft: Draft, message: MessageArrived) -> AttemptKey | None:
    token = str(message.facts.get("token"))
    unit, undoing = draft.fold.tokens.get(token, (None, False))
    if unit is None or (not undoing and not draft.fold.going):
        return None
    resumed = j.CompensationResumed if undoing else j.UnitResumed
    draft.record(resumed, unit, payload=message.payload or NULL, token=token)
    return AttemptKey(unit=unit, compensating=undoing)


def _child_ended(draft: Draft, message: MessageArrived) -> AttemptKey | None:
    unit = UnitKey.parse(message.name)
    child_id = str(message.facts.get("child_id"))
    state = draft.fold.live_children.get(unit)
    if state is None or state.child_id != child_id:
        return None
    failure = _failure(message)
    if failure is None:
        draft.record(j.ChildCompleted, unit, payload=message.payload or NULL, child_id=child_id)
    else:
        draft.record(j.ChildFailed, unit, failure=failure, child_id=child_id)
    return AttemptKey(unit=unit)


def _child_undone(draft: Draft, message: MessageArrived) -> AttemptKey | None:
    unit = UnitKey.parse(message.name)
    state = draft.fold.open_undos.get(unit)
    if (
        state is None
        or state.status is not UnitStatus.WITH_CHILD
        or state.child_id != message.facts.get("child_id")
    ):
        return None
    failure = _failure(message)
    if failure is None:
        draft.record(j.UnitCompensated, unit, attempt=1)
    else:
        draft.record(j.CompensationFailed, unit, failure=failure, attempt=1)
    return AttemptKey(unit=unit, compensating=True)


def _failure(message: MessageArrived) -> Failure | None:
    plain = message.facts.get("failure")
    return None if plain is None else failure_from_plain(plain)


def _cancel(draft: Draft, message: MessageArrived) -> None:
    """Cancelling again changes nothing, but ``terminate`` overrides ``compensate``, also in the
    middle of a rollback. A paused run is let go, so that it can be cancelled."""
    fold = draft.fold
    terminate = message.facts.get("mode") == "terminate"
    if fold.ended is not None:
        return
    if fold.cancel is not None and (not terminate or fold.cancel.mode == "terminate"):
        return
    if fold.rollback is not None and not terminate:
        return
    if fold.paused is not None:
        draft.record(j.RunUnpaused)
    reason = message.facts.get("reason")
    draft.record(
        j.CancelRequested,
        mode="terminate" if terminate else "compensate",
        reason=None if reason is None else str(reason),
    )


def _pause(draft: Draft, message: MessageArrived) -> None:
    if draft.fold.ended is None and draft.fold.paused is None:
        draft.record(j.RunPaused)


def _unpause(draft: Draft, message: MessageArrived) -> None:
    if draft.fold.paused is not None:
        draft.record(j.RunUnpaused)


def _retry(draft: Draft, message: MessageArrived) -> None:
    if isinstance(draft.fold.ended, j.RunFailed):
        draft.record(j.RunRetried)
    elif draft.fold.parked is not None:
        draft.record(j.RunUnparked)


def _rollback(draft: Draft, message: MessageArrived) -> None:
    if isinstance(draft.fold.ended, j.RunCompleted):
        draft.record(j.RollbackRequested)
        draft.record(j.RollbackStarted, cause="rolled_back")


Handler = Callable[[Draft, MessageArrived], AttemptKey | None]

HANDLERS: Mapping[str, Handler] = {
    MessageKind.RESUME: _resume,
    MessageKind.CHILD_ENDED: _child_ended,
    MessageKind.CHILD_UNDONE: _child_undone,
    MessageKind.CANCEL: _cancel,
    MessageKind.PAUSE: _pause,
    MessageKind.UNPAUSE: _unpause,
    MessageKind.RETRY: _retry,
    MessageKind.ROLLBACK: _rollback,
}


def unattended(message: MessageArrived) -> bool:
    """Whether a worker that does not know the workflow can handle this message."""
    if message.kind == MessageKind.CANCEL:
        return message.facts.get("mode") == "terminate"
    return message.kind in (MessageKind.PAUSE, MessageKind.UNPAUSE)


def take_message(draft: Draft, message: MessageArrived) -> AttemptKey | None:
    """Apply and consume a message; an unknown kind is consumed too, and changes nothing."""
    draft.consumed.append(message.seq)
    handler = HANDLERS.get(message.kind)
    return None if handler is None else handler(draft, message)


def take_anyway(draft: Draft, message: MessageArrived) -> None:
    """Of a run that the definition does not fit, apply what needs none; the rest stays in the
    inbox. An ended run is live again by a retry, and parked; a parked one was tried just now."""
    parked = draft.fold.parked
    if message.kind == MessageKind.RETRY and parked is not None and parked.reason in LIFTED:
        draft.consumed.append(message.seq)
    elif unattended(message) or message.kind in (MessageKind.RETRY, MessageKind.ROLLBACK):
        take_message(draft, message)
