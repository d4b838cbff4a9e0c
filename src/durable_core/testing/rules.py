"""Rules: what a simulation may not break by itself, each by its name in ``architecture.md``.

Each rule looks at what is left of a simulation (journals, rows, inboxes) and at what its witness
wrote down. It trusts neither the kernel's fold nor the store's answers where it can look for
itself.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from ..codec.records import waits_from_text
from ..engine.owner import name_of
from ..errors import DurableError
from ..kernel import journal as j
from ..kernel.invariants import check_journal
from .calls import Call
from .memory_state import StoredRun
from .simulation import Simulation
from .witness import NEW_GENERATION, Landed, Violation

MISHAPS = (
    "Crash",
    "Pause",
    "Theft",
    "Stop",
    "Interrupt",
    "StoreError",
    "Delay",
    "ClockJump",
    "Operate",
)
"""Any of these may make one more call of a handler that is under way."""

FAILED = (j.AttemptFailed, j.CompensationAttemptFailed)
SUSPENDED = (j.UnitSuspended, j.CompensationSuspended)
UNDO_ENDS = (j.UnitCompensated, j.CompensationFailed)

ENDS = frozenset(
    {
        "unit_completed",
        "unit_failed",
        "unit_cancelled",
        "child_completed",
        "child_failed",
        "signal_consumed",
        "wait_timed_out",
        "timer_fired",
        "unit_compensated",
        "compensation_failed",
    }
)
"""How a unit, or its compensation, is over."""


# --- journals ------------------------------------------------------------------------------------


def _journals(sim: Simulation) -> Iterator[Violation]:
    """I-SEQ, I-LEGAL, I-FINAL, I-REVERSE, by the kernel's own tables."""
    for run_id in sim.runs:
        try:
            check_journal(run_id, sim.history(run_id))
        except DurableError as error:
            name = re.search(r"I-[A-Z]+", str(error))
            yield Violation("I-LEGAL" if name is None else name[0], str(error))


def _once(sim: Simulation) -> Iterator[Violation]:
    """I-ONCE: a unit ends once in a generation, and its handler does not begin afterwards."""
    for run_id in sim.runs:
        ends: Counter[tuple[str, str]] = Counter()
        for entry in sim.history(run_id):
            if entry.kind in NEW_GENERATION:
                ends.clear()
            if entry.kind not in ENDS:
                continue
            undo, unit = isinstance(entry, UNDO_ENDS), str(entry.unit)
            ends[("undo" if undo else entry.kind, unit)] += 1
            if ends[("undo" if undo else entry.kind, unit)] == 2:
                yield Violation(
                    "I-ONCE",
                    f"{unit} was committed twice as {entry.kind} in run {run_id!r}",
                    unit,
                    event=_event_of(sim, run_id, entry.seq),
                )
    lawless = sim.fired["Theft"] or sim.fired["ClockJump"]
    for call in sim.world.calls:
        if call.too_late and not lawless:
            yield Violation(
                "I-ONCE",
                f"the handler of {call.label} began again after its end was committed",
                call.label,
                event=call.event,
            )


def _reverse(sim: Simulation) -> Iterator[Violation]:
    """I-REVERSE: a rollback leaves out no unit that can be undone, and undoes no other."""
    can_be_undone = {(call.run_id, call.label) for call in sim.world.calls if call.has_undo}
    children = {run_id for run_id, _ in can_be_undone}
    for run_id in sim.runs:
        left: dict[str, None] = {}
        for entry in sim.history(run_id):
            unit = str(entry.unit)
            if isinstance(entry, j.RunContinued):
                left.clear()  # the undos of before are given up
            of_child = isinstance(entry, j.ChildCompleted) and entry.child_id in children
            of_unit = isinstance(entry, j.UnitCompleted) and (run_id, unit) in can_be_undone
            if of_child or of_unit or isinstance(entry, j.UndoRegistered):
                left[unit] = None
            elif isinstance(entry, UNDO_ENDS):
                left.pop(unit, None)
            elif isinstance(entry, j.RunFailed | j.RunCancelled):
                for forgotten in left:
                    if forgotten not in entry.not_compensated:
                        yield Violation(
                            "I-REVERSE",
                            f"run {run_id!r} was rolled back, and {forgotten} was not undone",
                            forgotten,
                            event=_event_of(sim, run_id, entry.seq),
                        )


def _fence(sim: Simulation) -> Iterator[Violation]:
    """I-FENCE: entries are written under epochs that never go back."""
    for run_id, run in sim.world.stored.items():
        epochs = [epoch for epoch, _ in run.entries]
        if epochs != sorted(epochs) or (epochs and epochs[-1] > run.epoch):
            yield Violation(
                "I-FENCE",
                f"the entries of run {run_id!r} were written under epochs that go back",
                found=str(epochs),
            )


def _event_of(sim: Simulation, run_id: str, seq: int) -> int | None:
    landed = _landed(sim, run_id, seq)
    return None if landed is None else landed.event


def _landed(sim: Simulation, run_id: str, seq: int) -> Landed | None:
    for landed in sim.world.witness.landed:
        if landed.run_id == run_id and landed.first <= seq <= landed.last:
            return landed
    return None


# --- messages ------------------------------------------------------------------------------------


def _inbox(sim: Simulation) -> Iterator[Violation]:
    """I-INBOX: a message is consumed at most once and never lost; FIFO per name."""
    consumed: dict[str, dict[int, Any]] = defaultdict(dict)
    for message in sim.world.witness.consumed:
        consumed[message.run_id][message.seq] = message
    for run_id, run in sim.world.stored.items():
        taken = consumed[run_id]
        for seq in range(1, run.arrived + 1):
            if seq not in taken and seq not in run.inbox:
                yield Violation("I-INBOX", f"message {seq} to run {run_id!r} was lost")
        keys = Counter(message.dedupe for message in taken.values() if message.dedupe is not None)
        keys.update(sent.dedupe for sent, _ in run.inbox.values() if sent.dedupe is not None)
        for key, count in keys.items():
            if count > 1:
                yield Violation("I-INBOX", f"run {run_id!r} took message {key!r} {count} times")
        yield from _signals_in_order(sim, run_id, taken)


def _signals_in_order(sim: Simulation, run_id: str, taken: dict[int, Any]) -> Iterator[Violation]:
    journaled: set[int] = set()
    newest: dict[str, int] = {}
    for entry in sim.history(run_id):
        if not isinstance(entry, j.SignalConsumed | j.SignalRejected):
            continue
        unit, seq = str(entry.unit), entry.message
        event = _event_of(sim, run_id, entry.seq)
        if seq in journaled:
            yield Violation("I-INBOX", f"signal {seq} was consumed twice", unit, event=event)
        journaled.add(seq)
        if seq not in taken:
            yield Violation(
                "I-INBOX", f"signal {seq} was consumed without leaving the inbox", unit, event=event
            )
            continue
        name = taken[seq].name
        if seq < newest.get(name, 0):
            yield Violation(
                "I-INBOX", f"signals {name!r} were not consumed in order", unit, event=event
            )
        newest[name] = seq
    for seq, message in taken.items():
        if message.kind == "signal" and seq not in journaled and not message.renewing:
            yield Violation("I-INBOX", f"signal {message.name!r} was taken out, and never used")


# --- liveness ------------------------------------------------------------------------------------


def _live(sim: Simulation) -> Iterator[Violation]:
    """I-LIVE: when all is quiet, what has not ended visibly waits for what has not come."""
    for run_id, run in sim.world.stored.items():
        if run.ended:
            if run.owner is not None or run.due_at_ms is not None:
                yield Violation(
                    "I-FINAL", f"run {run_id!r} has ended, and is still to be worked on"
                )
            continue
        if run.owner is not None or run.due_at_ms is not None:
            who = "nobody" if run.owner is None else name_of(run.owner)
            yield _stuck(f"run {run_id!r} is due, and nothing happens ({who} holds it)")
        waits = waits_from_text(run.waiting)
        if not waits:
            yield _stuck(f"run {run_id!r} ({run.status}) has not ended, and waits for nothing")
        if all(wait.kind != "operator" for wait in waits):  # held: it stands still by right
            for wait in waits:
                yield from _waits_in_vain(sim, run_id, run, wait)
        yield from _orphan(sim, run_id, run)


def _waits_in_vain(sim: Simulation, run_id: str, run: StoredRun, wait: Any) -> Iterator[Violation]:
    what = f"run {run_id!r}: {wait.unit or 'it'} waits for"
    match wait.kind:
        case "signal" if any(record.name == wait.name for record in run.mail(0)):
            yield _stuck(f"{what} signal {wait.name!r}, which lies in its inbox", wait.unit)
        case "resume" if wait.token not in run.tokens or run.tokens[wait.token].used:
            yield _stuck(f"{what} a resumption that cannot come: its token is closed", wait.unit)
        case "child":
            child = sim.world.stored.get(wait.name)
            if child is None or child.ended:
                how = "does not exist" if child is None else "has ended"
                yield _stuck(f"{what} child run {wait.name!r}, which {how}", wait.unit)
        case "timer" | "retry":
            yield _stuck(f"{what} a {wait.kind}, and no time is set", wait.unit)


def _orphan(sim: Simulation, run_id: str, run: StoredRun) -> Iterator[Violation]:
    parent_id = run.new.parent_id
    if parent_id is None:
        return
    parent = sim.world.stored.get(parent_id)
    if parent is None or parent.ended:
        yield _stuck(f"child run {run_id!r} lives, and its parent has ended", run.new.parent_unit)


def _stuck(sentence: str, unit: str | None = None) -> Violation:
    return Violation("I-LIVE", sentence, unit or "")


# --- time ----------------------------------------------------------------------------------------


def _time(sim: Simulation) -> Iterator[Violation]:
    """I-TIME: nothing fires before it is due by the store's clock."""
    jumped = bool(sim.fired["ClockJump"])
    for run_id in sim.runs:
        due: dict[str, int] = {}
        for entry in sim.history(run_id):
            unit = str(entry.unit)
            match entry:
                case (
                    j.TimerStarted(due_at_ms=due_at_ms) | j.SignalAwaited(due_at_ms=int(due_at_ms))
                ):
                    due[unit] = due_at_ms
                    continue
                case j.TimerFired() | j.WaitTimedOut():
                    pass
                case j.UnitFailed(failure=failure, attempt=0) if failure.type == "TimeoutError":
                    pass
                case _:
                    continue
            landed = _landed(sim, run_id, entry.seq)
            at_ms = entry.at_ms
            if landed is not None and not jumped:
                at_ms = min(at_ms, landed.at_ms)
            if unit in due and at_ms < due[unit]:
                yield Violation(
                    "I-TIME",
                    f"the time of {unit} was over before it was due",
                    unit,
                    expected=f"not before {due[unit]} ms",
                    found=f"{at_ms} ms",
                    event=None if landed is None else landed.event,
                )
    if not jumped:
        yield from _retries_in_time(sim)


def _retries_in_time(sim: Simulation) -> Iterator[Violation]:
    due: dict[tuple[str, str, int, int], int] = {}
    for run_id, generation, entry in _generations(sim):
        if isinstance(entry, FAILED):
            due[(run_id, _label(entry), generation, entry.attempt + 1)] = entry.retry_at_ms
    for call in sim.world.calls:
        at_ms = due.get((call.run_id, call.label, call.generation, call.attempt))
        if at_ms is not None and call.at_ms < at_ms:
            yield Violation(
                "I-TIME",
                f"attempt {call.attempt} of {call.label} began before its backoff was over",
                call.label,
                expected=f"not before {at_ms} ms",
                found=f"{call.at_ms} ms",
                event=call.event,
            )


def _generations(sim: Simulation) -> Iterator[tuple[str, int, Any]]:
    """Every entry of every run, with its run and generation."""
    for run_id in sim.runs:
        generation = 1
        for entry in sim.history(run_id):
            if isinstance(entry, j.RunContinued):
                generation = entry.generation
            else:
                generation += entry.kind in NEW_GENERATION
            yield run_id, generation, entry


def _label(entry: Any) -> str:
    undoing = entry.kind.startswith("compensation") or isinstance(entry, j.UnitCompensated)
    return f"undo {entry.unit}" if undoing else str(entry.unit)


# --- calls ---------------------------------------------------------------------------------------


def _attempts(sim: Simulation) -> Iterator[Violation]:
    """A crash loses only what is in flight: so many calls as failures, mishaps, and one more."""
    excused: Counter[tuple[str, str, int]] = Counter()
    failed: Counter[tuple[str, str, int, int]] = Counter()
    for run_id, generation, entry in _generations(sim):
        if isinstance(entry, FAILED + SUSPENDED):
            excused[(run_id, _label(entry), generation)] += 1
        if isinstance(entry, FAILED):
            failed[(run_id, _label(entry), generation, entry.attempt)] += 1
    for (run_id, label, _, attempt), count in failed.items():
        if count > 1:
            yield Violation(
                "I-ONCE", f"attempt {attempt} of {label} failed twice in run {run_id!r}", label
            )
    mishaps = sum(sim.fired[kind] for kind in MISHAPS) + sim.world.suspensions
    calls: dict[tuple[str, str, int], list[Call]] = defaultdict(list)
    for call in sim.world.calls:
        calls[(call.run_id, call.label, call.generation)].append(call)
        if call.attempt > call.attempts_max:
            yield Violation(
                "I-CRASH",
                f"{call.label} was called for attempt {call.attempt} of {call.attempts_max}",
                call.label,
                event=call.event,
            )
    for key, made in calls.items():
        most = excused[key] + 1 + mishaps
        if len(made) > most:
            yield Violation(
                "I-CRASH",
                f"the handler of {key[1]} was called more often than its failures and what went "
                "wrong explain",
                key[1],
                expected=f"at most {most} calls",
                found=f"{len(made)} calls",
                event=made[most].event,
            )


def _keys(sim: Simulation) -> Iterator[Violation]:
    """A unit has one idempotency key in all its calls, and no other unit has it."""
    owners: dict[str, tuple[str, str, int]] = {}
    keys: dict[tuple[str, str, int], str] = {}
    for call in sim.world.calls:
        unit = (call.run_id, call.label, call.generation)
        known, owner = keys.setdefault(unit, call.key), owners.setdefault(call.key, unit)
        if known != call.key or owner != unit:
            what = "changed" if known != call.key else f"is that of {owner[1]} too"
            yield Violation(
                "I-ONCE",
                f"the idempotency key of {call.label} {what}",
                call.label,
                expected=known,
                found=call.key,
                event=call.event,
            )


RULES: tuple[Callable[[Simulation], Iterator[Violation]], ...] = (
    _journals,
    _once,
    _reverse,
    _fence,
    _inbox,
    _live,
    _time,
    _attempts,
    _keys,
)
