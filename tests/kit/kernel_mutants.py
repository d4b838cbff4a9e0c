"""Defects of what decides: sagas, attempts, decisions, cancellations."""

from __future__ import annotations

from tests.kit.planting import Edit, Mutant

KERNEL = "durable_core.kernel"
WORKER = "durable_core.engine.worker"

SAGAS = (
    Mutant(
        "compensation from index - 1",
        "the unit that was committed last is not undone",
        (Edit(
            f"{KERNEL}.saga:pending",
            "and not (unit in fold.undos and fold.undos[unit].ended)",
            "and not (unit in fold.undos and fold.undos[unit].ended)"
            " and unit != fold.completed[-1]",
        ),),
        bug=50,
        first="saga",
        quick=True,
    ),
    Mutant(
        "undone in commit order",
        "a rollback begins with the first unit",
        (Edit(
            f"{KERNEL}.ending:Ender._roll_back",
            "self._queue = saga.pending(fold, frontier.undos)",
            "self._queue = saga.pending(fold, frontier.undos)[::-1]",
        ),),
        bug=49,
        first="saga",
        quick=True,
    ),
    Mutant(
        "a failed unit is undone",
        "a unit that failed counts as one to be undone",
        (Edit(
            f"{KERNEL}.fold:Fold._failed",
            "state.failure = entry.failure",
            "state.failure = entry.failure; self.completed.append(entry.unit)",
        ),),
        first="step, step",
    ),
    Mutant(
        "undone twice",
        "a compensation is made once more after its first success",
        (Edit(
            f"{KERNEL}.reports:take_report",
            "if undoing:\n                draft.record(j.UnitCompensated",
            "if undoing and attempt.number == 1:\n"
            "                _record_failure(draft, attempt, Failure(type='X', message=''),"
            " retryable=True)\n"
            "                return\n"
            "            if undoing:\n                draft.record(j.UnitCompensated",
        ),),
        first="torn",
    ),
    Mutant(
        "entries are not undone",
        "a rollback leaves out the entries of a parallel step, of a map, of a route",
        (Edit(
            f"{KERNEL}.saga:pending",
            "if unit in compensable",
            "if unit in compensable and len(unit) == 1",
        ),),
        bug=50,
        first="torn",
        quick=True,
    ),
    Mutant(
        "undone with another's value",
        "a compensator is given the value of the first unit",
        (Edit(
            f"{KERNEL}.attempting:attempt_of",
            "value=done.payload if",
            "value=fold.units[fold.completed[0]].payload if",
        ),),
        first="torn",
    ),
    Mutant(
        "failed compensation swallowed",
        "a run with a compensation that failed looks cleanly rolled back",
        (Edit(
            f"{KERNEL}.saga:not_undone",
            "fold.undos[unit].status is UnitStatus.FAILED",
            "fold.undos[unit].status is UnitStatus.NEW",
        ),),
        bug=51,
        first="stuck",
    ),
    Mutant(
        "rolled back too soon",
        "a rollback begins while a handler of the failing step is still at work",
        (Edit(
            f"{KERNEL}.ending:Ender._all_quiet",
            "return not self._in_flight and not draft.fold.live_children",
            "return True",
        ),),
        bug=52,
        first="torn",
    ),
    Mutant(
        "the child is not undone",
        "a child run that completed stays as it is when its parent is rolled back",
        (Edit(
            f"{KERNEL}.saga:pending",
            "if unit in compensable",
            "if unit in compensable and fold.units[unit].child_id is None",
        ),),
        bug=50,
        first="fallen",
    ),
)  # fmt: skip

ATTEMPTS = (
    Mutant(
        "attempts are not persisted",
        "the first failed attempt of a unit is not counted",
        (Edit(
            f"{KERNEL}.fold:Fold._attempt_failed",
            "state.attempts = entry.attempt",
            "state.attempts = entry.attempt if state.failure else 0",
        ),),
        bug=34,
        first="patient",
        quick=True,
    ),
    Mutant(
        "no backoff",
        "a failed attempt is tried again at once",
        (Edit(
            f"{KERNEL}.reports:_record_failure",
            "draft.now_ms + policy.delay_ms(attempt.number, seed)",
            "draft.now_ms",
        ),),
        bug=57,
        first="patient",
    ),
    Mutant(
        "one attempt too many",
        "max_attempts counts the retries",
        (Edit(
            f"{KERNEL}.reports:_record_failure",
            "attempt.number >= policy",
            "attempt.number > policy",
        ),),
        bug=35,
        first="trip",
    ),
    Mutant(
        "failure recorded as success",
        "a unit that failed for good is completed",
        (Edit(
            f"{KERNEL}.decide:decide",
            "case U.FAILED:",
            "case U.FAILED if isinstance(step, Call):\n"
            "            return Completed(NULL)\n"
            "        case U.FAILED:",
        ),),
        bug=51,
        first="stuck",
    ),
    Mutant(
        "too late, and accepted",
        "an attempt that was given up is reported again when it ends, as if it were the next",
        (Edit(f"{WORKER}.attempts:Call._report", "if not self._reported:", "if True:"),),
        bug=52,
        first="too late",
    ),
    Mutant(
        "None is no result",
        "a unit that gave None is taken for one that has not ended",
        (Edit(
            f"{KERNEL}.decide:decide",
            "case U.COMPLETED:",
            "case U.COMPLETED if state.payload == NULL and isinstance(step, Call):\n"
            "            return Attempting(1)\n"
            "        case U.COMPLETED:",
        ),),
        bug=36,
        first="step, parallel",
    ),
    Mutant(
        "begun before the commit",
        "the next handlers begin before what went before is durable",
        (
            Edit(
                f"{WORKER}.runner:Runner._decide_and_commit",
                "self._busy = True",
                "self._busy = True; self._act(transition)",
            ),
            Edit(f"{WORKER}.runner:Runner.applied", "self._act(transition)", "pass"),
        ),
        bug=12,
        first="saga",
    ),
    Mutant(
        "every unit once more",
        "after a claim the handler of the last completed unit is called again",
        (Edit(
            f"{WORKER}.adopting:_whole_journal",
            "return entries",
            "return [entry for entry in entries if entry.kind != 'unit_completed']",
        ),),
        bug=47,
    ),
)  # fmt: skip

DECISIONS = (
    Mutant(
        "early timer",
        "whatever falls due is five seconds early",
        (Edit(
            f"{KERNEL}.decide:_when_due",
            "if state.due_at_ms is not None and state.due_at_ms > moment.now_ms:\n"
            "        return Holding(state.due_at_ms)",
            "if state.due_at_ms is not None and state.due_at_ms - 5_000 > moment.now_ms:\n"
            "        return Holding(state.due_at_ms - 5_000)",
        ),),
        bug=55,
        first="patient",
        quick=True,
    ),
    Mutant(
        "re-anchored timer",
        "a sleep begins anew whenever it is looked at",
        (Edit(
            f"{KERNEL}.decide:_when_due",
            "state.due_at_ms > moment.now_ms:\n        return Holding(state.due_at_ms)",
            "state.since_ms <= moment.now_ms:\n"
            "        return Holding(moment.now_ms + state.due_at_ms - state.since_ms)",
        ),),
        bug=53,
        first="patient",
    ),
    Mutant(
        "a wait without an end",
        "the time-out of a wait is not recorded",
        (Edit(
            f"{KERNEL}.decide:_begin_wait",
            "due = None if step.timeout_ms is None else",
            "due = None if step.timeout_ms is not None else",
        ),),
        bug=16,
        first="silence",
    ),
    Mutant(
        "route decided again",
        "the key of a route is asked for again in every replay",
        (Edit(
            f"{KERNEL}.decide:decide",
            "case U.COMPLETED:",
            "case U.COMPLETED if isinstance(step, Record) and step.kind == 'route_decided':\n"
            "            return Completed(step.compute(), state.verdict)\n"
            "        case U.COMPLETED:",
        ),),
        bug=66,
        first="route, sleep",
    ),
    Mutant(
        "items computed again",
        "the list of a map is asked for again in every replay",
        (Edit(
            f"{KERNEL}.decide:decide",
            "case U.COMPLETED:",
            "case U.COMPLETED if isinstance(step, Record) and step.kind == 'items_recorded':\n"
            "            return Completed(step.compute(), state.verdict)\n"
            "        case U.COMPLETED:",
        ),),
        bug=66,
        first="map, sleep",
    ),
    Mutant(
        "feedback lost",
        "a loop goes on with its first value",
        (Edit("durable_core.workflow.lower:_loop", "if verdict != SAME:", "if False:"),),
        first="step, loop",
    ),
    Mutant(
        "signal used twice",
        "a consumed signal is still there for the next wait",
        (Edit(
            f"{KERNEL}.transition:Held._record",
            "self._signals[signal].popleft()",
            "self._signals[signal][0]",
        ),),
        bug=28,
        first="order",
    ),
    Mutant(
        "answers change places",
        "of two suspensions the last is resumed, whatever the token says",
        (Edit(
            f"{KERNEL}.messages:_resume",
            "draft.fold.tokens.get(token, (None, False))",
            "next(reversed(draft.fold.tokens.values()), (None, False))",
        ),),
        bug=46,
        first="two tools",
    ),
    Mutant(
        "answer lost",
        "a resumed handler is not given the answer",
        (Edit(f"{KERNEL}.fold:Fold._resumed", "state.data = entry.payload", "state.data = NULL"),),
        bug=46,
        first="agent",
    ),
    Mutant(
        "two children",
        "a child is started twice, under two ids",
        (Edit(
            f"{KERNEL}.transition:Held._record",
            "            ChildStart(run_id=entry.child_id, unit=entry.unit, spec=outcome.child)\n",
            "            ChildStart(run_id=entry.child_id, unit=entry.unit, spec=outcome.child)\n"
            "        )\n"
            "        self._draft.children.append(\n"
            "            ChildStart(run_id=f'{entry.child_id}2', unit=entry.unit,"
            " spec=outcome.child)\n",
        ),),
        bug=72,
        first="tree",
    ),
    Mutant(
        "deaf to its children",
        "the end of a child is consumed, and changes nothing",
        (Edit(f"{KERNEL}.messages:_child_ended", "if state is None or", "if True or"),),
        bug=19,
        first="tree",
    ),
)  # fmt: skip

CANCELS = (
    Mutant(
        "cancel lost meanwhile",
        "messages that come while a handler is at work are taken for seen, and dropped",
        (Edit(
            f"{WORKER}.runner:Runner._take",
            "self._events.append(message_arrived(record))",
            "self._out or self._events.append(message_arrived(record))",
        ),),
        bug=44,
        first="torn",
    ),
    Mutant(
        "cancel overwritten by success",
        "a run that was cancelled, and has ended all the same, is completed",
        (Edit(
            f"{KERNEL}.ending:Ender.conclude",
            "frontier.ending is not None and fold.cancel is None and",
            "frontier.ending is not None and",
        ),),
        bug=44,
        first="busy",
    ),
    Mutant(
        "cancel stops at the child",
        "the children of a cancelled run are not told",
        (Edit(
            f"{KERNEL}.ending:Ender._cancel_children",
            "self.cancel_child(draft, unit, state, mode)",
            "pass",
        ),),
        bug=19,
        first="waits",
    ),
    Mutant(
        "cancel ignored",
        "a cancellation is consumed, and changes nothing",
        (Edit(f"{KERNEL}.messages:_cancel", "if fold.ended is not None:", "if True:"),),
        bug=44,
        first="waits",
    ),
    Mutant(
        "pause ignored",
        "a paused run goes on",
        (Edit(
            f"{KERNEL}.messages:_pause",
            "if draft.fold.ended is None and draft.fold.paused is None:",
            "if draft.fold.ended is not None:",
        ),),
        first="patient",
    ),
)  # fmt: skip

KERNEL_MUTANTS = (*SAGAS, *ATTEMPTS, *DECISIONS, *CANCELS)
