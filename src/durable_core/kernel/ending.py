"""Ending: how a run stops, rolls back and ends.

Owns the way from "it is over" (the program ended or failed, somebody cancelled, the deadline
passed) to the run's last entry. Rules:

1. Neither a rollback nor an end is recorded while an attempt is out: attempts are told to stop
   and are waited for. Live children are told to cancel and are waited for too, except by
   ``terminate``.
2. ``terminate`` needs no definition; it ends the run at once and lists what was not undone.
3. A rollback runs one compensation at a time (``saga``), and while the run is paused or parked
   it stands still.
4. The end is told to the parent, if there is one, in the same commit.
5. A program that ends to continue as new gives up its undos. When, as before every end, no attempt
   is out and no child is live, the journal begins anew.
"""

from __future__ import annotations

from typing import Any

from . import journal as j
from . import saga
from .decide import decide_undo
from .draft import Draft
from .empty import NO_DICT
from .event import MessageKind
from .failure import Failure, failure_to_plain
from .fold import Fold, UnitState
from .ids import UnitKey
from .in_flight import InFlight
from .outcome import (
    Attempt,
    Attempting,
    AttemptKey,
    Completed,
    Ending,
    Failed,
    Holding,
    Outgoing,
    Recording,
)
from .replay import Frontier
from .run import RunStatus


class Ender:
    """What is on its way to stop, and where the rollback stands; a part of the cursor."""

    __slots__ = ("_in_flight", "_queue", "_told", "_tokens_closed", "next_undo")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._told: dict[tuple[UnitKey, str], None] = NO_DICT  # live children, and how
        self._tokens_closed = False
        self._queue: list[UnitKey] | None = None
        self.next_undo: tuple[AttemptKey | None, tuple[AttemptKey, int] | None] = (None, None)

    def forget(self) -> None:
        """The program begins again from the journal."""
        self._queue = None
        self._told.clear()
        self._tokens_closed = False

    # --- stopping ------------------------------------------------------------------------------

    def stop_attempts(self, draft: Draft) -> None:
        """Tell every attempt that is out to stop; each is told once."""
        for attempt in self._in_flight:
            self.stop_attempt(draft, attempt)

    def stop_attempt(self, draft: Draft, attempt: Attempt) -> None:
        """Tell one attempt to stop."""
        if not attempt.stopped:
            attempt.stopped = True
            draft.stop.append(attempt.key)

    def cancel_child(self, draft: Draft, unit: UnitKey, state: UnitState, mode: str) -> None:
        """Tell a live child run to cancel itself; once, and once more to terminate."""
        assert state.child_id is not None
        if (state.cancel_requested and mode == "compensate") or (unit, mode) in self._told:
            return
        self._told = self._told or {}
        self._told[unit, mode] = None
        draft.record(j.ChildCancelRequested, unit, child_id=state.child_id)
        draft.messages.append(
            Outgoing(
                run_id=state.child_id,
                kind=MessageKind.CANCEL,
                facts={"mode": mode, "reason": "its parent run was cancelled or failed"},
                dedupe=f"cancel:{mode}:{draft.run.run_id}:{draft.fold.generation}",
                anyone=mode == "terminate",
            )
        )

    def _cancel_children(self, draft: Draft, mode: str) -> None:
        for unit, state in list(draft.fold.live_children.items()):
            self.cancel_child(draft, unit, state, mode)

    # --- from "it is over" to the last entry ---------------------------------------------------

    def conclude(self, draft: Draft, frontier: Frontier | None) -> None:
        """Go as far towards the end as can be gone now."""
        self.next_undo = (None, None)
        fold = draft.fold
        if fold.cancel is not None and fold.cancel.mode == "terminate":
            self._terminate(draft, frontier)
            return
        if frontier is None:
            return
        over = frontier.over or fold.cancel is not None or fold.deadline_passed is not None
        if fold.rollback is None:
            if not over or not self._all_quiet(draft):
                return
            if frontier.ending is not None and fold.cancel is None and not fold.deadline_passed:
                self._complete(draft, frontier.ending)
                return
            if fold.parked is not None:
                return
            cause, failure = self._cause(draft, frontier)
            draft.record(j.RollbackStarted, cause=cause, failure=failure)
        if fold.paused is None and fold.parked is None:
            self._roll_back(draft, frontier)

    def _complete(self, draft: Draft, ending: Ending) -> None:
        if not ending.continues:
            draft.record(j.RunCompleted, payload=ending.payload, shape=ending.shape)
        elif not draft.renews:  # a program that asks for nothing would continue for ever
            assert ending.payload is not None, "a run continues with an input"
            draft.begin_anew(ending.payload)

    def _all_quiet(self, draft: Draft) -> bool:
        """Nothing is out any more: stop what is, and see."""
        if not self._tokens_closed:
            self._tokens_closed = True
            draft.tokens_closed += [t for t, (_, undo) in draft.fold.tokens.items() if not undo]
        self.stop_attempts(draft)
        self._cancel_children(draft, "compensate")
        return not self._in_flight and not draft.fold.live_children

    def _terminate(self, draft: Draft, frontier: Frontier | None) -> None:
        self.stop_attempts(draft)
        fold = draft.fold
        self._cancel_children(draft, "terminate")
        if self._in_flight:
            return
        left = () if frontier is None else saga.pending(fold, frontier.undos)
        failed = saga.not_undone(fold)
        assert fold.cancel is not None
        draft.record(
            j.RunCancelled,
            reason=fold.cancel.reason,
            not_compensated=(*failed, *(str(unit) for unit in left)),
        )

    def _cause(self, draft: Draft, frontier: Frontier) -> tuple[str, Failure | None]:
        fold = draft.fold
        if fold.cancel is not None:
            return "cancelled", None
        if fold.deadline_passed is not None:
            return "failed", Failure(
                type="DeadlineExceeded",
                message=f"the run did not end by its deadline ({draft.run.deadline_ms} ms)",
            )
        assert frontier.failure is not None
        return "failed", frontier.failure

    def _roll_back(self, draft: Draft, frontier: Frontier) -> None:
        fold = draft.fold
        if self._queue is None:
            self._queue = saga.pending(fold, frontier.undos)
        while self._queue:
            unit = self._queue[-1]
            _, undo = frontier.undos[unit]
            outcome = decide_undo(unit, undo, fold.units[unit], fold.undos.get(unit), draft)
            key = AttemptKey(unit=unit, compensating=True)
            match outcome:
                case Completed() | Failed():
                    self._queue.pop()
                case Attempting():
                    self.next_undo = (key, None)
                    return
                case Recording(entry=j.ChildRollbackRequested() as entry):
                    draft.append(entry)
                    self._ask_child_to_roll_back(draft, entry)
                    return
                case Holding(until_ms=until_ms):
                    self.next_undo = (None, None if until_ms is None else (key, until_ms))
                    return
                case _:
                    raise AssertionError(f"a compensation cannot come to {outcome}")
        self._end(draft)

    def _ask_child_to_roll_back(self, draft: Draft, entry: j.ChildRollbackRequested) -> None:
        draft.messages.append(
            Outgoing(
                run_id=entry.child_id,
                kind=MessageKind.ROLLBACK,
                dedupe=f"rollback:{draft.run.run_id}:{draft.fold.generation}",
                reopens=True,
            )
        )

    def _end(self, draft: Draft) -> None:
        fold = draft.fold
        rollback = fold.rollback
        assert rollback is not None
        failed = saga.not_undone(fold)
        if rollback.cause == "failed" or failed:
            failure = rollback.failure or Failure(
                type="RunCancelled", message="the run was cancelled and could not be undone whole"
            )
            draft.record(j.RunFailed, failure=failure, not_compensated=failed)
            return
        reason: str | None = "its parent run was rolled back"
        if rollback.cause == "cancelled":
            reason = fold.cancel.reason if fold.cancel is not None else None
        draft.record(j.RunCancelled, reason=reason)

    # --- how it ended --------------------------------------------------------------------------

    def final_status(self, fold: Fold) -> RunStatus:
        """The terminal status of an ended run."""
        match fold.ended:
            case j.RunCompleted():
                return RunStatus.COMPLETED
            case j.RunFailed(not_compensated=failed):
                return saga.final_status("failed", failed)
            case _:
                return RunStatus.CANCELLED

    def failure(self, fold: Fold) -> Failure | None:
        """Why the run is failing or failed, if it is."""
        if isinstance(fold.ended, j.RunFailed):
            return fold.ended.failure
        return None if fold.rollback is None else fold.rollback.failure

    def notice(self, draft: Draft, frontier: Frontier | None) -> Outgoing | None:
        """What the parent is told about this run's end."""
        run, fold = draft.run, draft.fold
        if run.parent_id is None or run.parent_unit is None:
            return None
        undone = fold.rollback is not None and fold.rollback.cause == "rolled_back"
        facts: dict[str, Any] = {
            "child_id": run.run_id,
            "status": self.final_status(fold).value,
        }
        payload = None
        failure = self._failure_for_parent(run.run_id, run.workflow, fold, undone=undone)
        if failure is not None:
            facts["failure"] = failure_to_plain(failure)
        elif isinstance(fold.ended, j.RunCompleted):
            payload = fold.ended.payload
            if payload is None and frontier is not None and frontier.ending is not None:
                payload = frontier.ending.assemble()
        kind = MessageKind.CHILD_UNDONE if undone else MessageKind.CHILD_ENDED
        return Outgoing(
            run_id=run.parent_id,
            kind=kind,
            name=run.parent_unit,
            payload=payload,
            facts=facts,
            dedupe=f"{kind}:{run.run_id}:{fold.generation}",
        )

    def _failure_for_parent(
        self, run_id: str, workflow: str, fold: Fold, *, undone: bool
    ) -> Failure | None:
        ended = fold.ended
        if isinstance(ended, j.RunFailed):
            return Failure(
                type="RunFailed",
                message=f"child run {run_id!r} of workflow {workflow!r} failed with "
                f"{ended.failure}",
                cause=ended.failure,
            )
        if isinstance(ended, j.RunCancelled) and (not undone or ended.not_compensated):
            return Failure(
                type="RunCancelled",
                message=f"child run {run_id!r} of workflow {workflow!r} was cancelled"
                + (f": {ended.reason}" if ended.reason else ""),
            )
        return None
