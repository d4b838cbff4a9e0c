"""Checks: what has to be true of every simulation, whatever the workflow and the plan.

``violations`` gathers what the witness saw, what breaks one of the ``rules``, and where a
simulation came to something else than a quiet one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

from ..errors import DurableError, EncodingError
from ..kernel import journal as j
from ..kernel.ids import UnitKey
from ..kernel.value import Payload
from .rules import FAILED, RULES
from .rules_of_leases import left_to_expire
from .simulation import Simulation
from .witness import Violation
from .world import CODEC, LEASE

__all__ = ["Compare", "Violation", "outcome_differs", "violations"]

Compare = Literal["same", "alike", "free"]
"""``same``: everything that ``Simulation.outcome`` tells is as in the quiet simulation. ``alike``:
the same happened to the same units, with whatever values. ``free``: nothing is compared."""


def violations(
    sim: Simulation,
    quiet: Simulation | None = None,
    *,
    compare: Compare | None = None,
    unsteady: Collection[tuple[str, str]] = (),
) -> list[Violation]:
    """Every rule that this simulation broke.

    ``quiet`` is the simulation of the same workflow with the same input under ``Faults()``.
    ``compare`` None: the outcome is to be the same, unless the plan ``races``. ``unsteady``: runs'
    places and units whose values are never the same twice, so that they cannot be compared.
    """
    found = list(sim.world.witness.breaches)
    found += _readable(sim)
    if found and any(one.name == "I-VALUE" for one in found):
        return found  # nobody can read on
    for rule in (*RULES, left_to_expire):
        found += rule(sim)
    if quiet is not None:
        if compare is None:
            compare = "free" if sim.plan.races else "same"
        if _timed_out_in_a_freeze(sim) or _sent_too_late(sim):
            compare = "free"
        found += outcome_differs(sim, quiet, compare, unsteady=unsteady)
        if compare != "free":
            found += _too_long(sim, quiet)
    return found


def _timed_out_in_a_freeze(sim: Simulation) -> bool:
    """Whether an attempt may have run out of time because its process stood still."""
    if not sim.fired["Pause"]:
        return False
    failures = (
        getattr(entry, "failure", None) for run_id in sim.runs for entry in sim.entries(run_id)
    )
    return any(failure is not None and failure.type == "TimeoutError" for failure in failures)


def _sent_too_late(sim: Simulation) -> bool:
    """Whether a wait may have timed out because the process that was to send the signal was gone,
    or stood still, until the moment had passed."""
    if not (sim.plan.embedded and sim.fired):
        return False
    for run_id in sim.runs:
        came = [
            (message.name, record.at_ms)
            for message, record in sim.world.stored[run_id].inbox.values()
        ]
        waits: dict[UnitKey | None, j.SignalAwaited] = {}
        for entry in sim.history(run_id):
            if isinstance(entry, j.SignalAwaited):
                waits[entry.unit] = entry
            elif isinstance(entry, j.WaitTimedOut | j.UnitFailed) and entry.unit in waits:
                wait = waits[entry.unit]
                due_ms = entry.at_ms if wait.due_at_ms is None else wait.due_at_ms
                if not any(name == wait.signal and at_ms < due_ms for name, at_ms in came):
                    return True
    return False


# --- the outcome ---------------------------------------------------------------------------------


def outcome_differs(
    sim: Simulation,
    quiet: Simulation,
    compare: Compare = "same",
    *,
    unsteady: Collection[tuple[str, str]] = (),
) -> Iterator[Violation]:
    """I-CRASH: the result does not depend on the schedule."""
    if compare == "free":
        return
    expected, found = (_by_place(one, compare, frozenset(unsteady)) for one in (quiet, sim))
    for place in sorted({*expected, *found}):
        if place not in found or place not in expected:
            there = "is there" if place in found else "is missing"
            yield Violation("I-CRASH", f"run {place!r} {there}, and it is the other way round "
                            "when nothing goes wrong")  # fmt: skip
            continue
        (status, facts), (status_now, facts_now) = expected[place], found[place]
        for unit in _units_that_differ(facts, facts_now):
            ours = [fact for fact in facts_now if fact[1] == unit]
            yield Violation(
                "I-CRASH",
                f"what became of {unit or 'the run'} in run {place!r} depends on the schedule",
                unit,
                expected=_told(fact for fact in facts if fact[1] == unit),
                found=_told(ours),
                event=_last_event(sim, unit),
            )
        if status != status_now:
            yield Violation(
                "I-CRASH",
                f"how run {place!r} ends depends on the schedule",
                expected=status,
                found=status_now,
                event=len(sim.world.chronicle) - 1,
            )


def unsteady_units(quiet: Simulation, other: Simulation) -> frozenset[tuple[str, str]]:
    """The runs' places and units whose values are not the same in two quiet simulations."""
    first, second = ({place: facts for place, _, facts in one.outcome()} for one in (quiet, other))
    return frozenset(
        (place, fact[1])
        for place in first.keys() & second.keys()
        for fact, _ in first[place] ^ second[place]
    )


def _by_place(
    sim: Simulation, compare: Compare, unsteady: frozenset[tuple[str, str]]
) -> dict[str, tuple[str, Counter[tuple[Any, ...]]]]:
    by_place = {}
    for place, status, facts in sim.outcome():
        kept: Counter[tuple[Any, ...]] = Counter()
        for (kind, unit, value, said), count in facts:
            bare = compare == "alike" or (place, unit) in unsteady
            kept[(kind, unit, None, None) if bare else (kind, unit, value, said)] += count
        by_place[place] = (status, kept)
    return by_place


def _units_that_differ(
    expected: Counter[tuple[Any, ...]], found: Counter[tuple[Any, ...]]
) -> list[str]:
    return sorted({fact[1] for fact in (expected - found) + (found - expected)})


def _told(facts: Iterable[tuple[Any, ...]]) -> str:
    told = [" ".join(filter(None, (kind, _shown(value), said))) for kind, _, value, said in facts]
    return "; ".join(sorted(told)) or "nothing"


def _shown(value: Any) -> str:
    match value:
        case Payload(data=data):
            return data[:200].decode(errors="replace")
        case (Payload(data=data), _):
            return data[:200].decode(errors="replace")
        case _:
            return ""


def _last_event(sim: Simulation, unit: str) -> int | None:
    """The last line of the chronicle that has to do with this unit."""
    pattern = re.compile(rf"(^|\s){re.escape(unit)}($|,)")
    for number in range(len(sim.world.chronicle) - 1, -1, -1):
        event = sim.world.chronicle[number]
        if unit and (pattern.search(event.where) or pattern.search(event.detail)):
            return number
    return len(sim.world.chronicle) - 1 if sim.world.chronicle else None


# --- values --------------------------------------------------------------------------------------


def _readable(sim: Simulation) -> Iterator[Violation]:
    """I-VALUE: what is stored can be read, and is written as the same bytes again."""
    for run_id, run in sim.world.stored.items():
        try:
            entries = sim.entries(run_id)
        except EncodingError as error:
            yield Violation("I-VALUE", f"the journal of run {run_id!r} cannot be read: {error}")
            continue
        payloads = [("", run.new.input)]
        payloads += [("", record.payload) for record in run.mail(0) if record.payload is not None]
        for entry in entries:
            for payload in (getattr(entry, "payload", None), getattr(entry, "verdict", None)):
                if isinstance(payload, Payload):
                    payloads.append((str(entry.unit), payload))
        for unit, payload in payloads:
            again = _written_again(payload)
            if again != payload.data:
                yield Violation(
                    "I-VALUE",
                    f"a value of {unit or 'the run'} is not the same when it is read and written "
                    "again",
                    unit,
                    expected=_shown(payload),
                    found=repr(again[:200]),
                )


@lru_cache(maxsize=4_096)
def _written_again(payload: Payload) -> bytes:
    try:
        return CODEC.encode(CODEC.decode(payload)).data
    except DurableError as error:
        return str(error).encode()


# --- how long it takes ---------------------------------------------------------------------------


def _too_long(sim: Simulation, quiet: Simulation) -> Iterator[Violation]:
    """I-LIVE: when the last mishap is over, everything ends in its time and three leases."""
    backoffs = [
        entry.retry_at_ms - entry.at_ms
        for one in sim.runs
        for entry in sim.entries(one)
        if isinstance(entry, FAILED)
    ]
    usual_s = max((landed.at_s for landed in quiet.world.witness.landed), default=0.0)
    ended_s = max((landed.at_s for landed in sim.world.witness.landed), default=0.0)
    limit_s = usual_s + 3 * LEASE.total_seconds() + max(backoffs, default=0) / 1_000
    took_s = ended_s - sim.world.mishaps.over_s
    if took_s > limit_s:
        yield Violation(
            "I-LIVE",
            "long after the last mishap the run had not ended",
            expected=f"at most {limit_s:.3f} s",
            found=f"{took_s:.3f} s",
            event=len(sim.world.chronicle) - 1,
        )
