"""Simulation: what came of one simulated life of a run, to be asked and asserted about."""

from __future__ import annotations

import hashlib
import weakref
from collections import Counter
from functools import cached_property
from typing import Any

from ..codec.records import entry_from_record, failure_from_text
from ..engine.client.info import JournalEntry, Reader, RunInfo, Wait
from ..errors import DurableError
from ..kernel.failure import Failure
from ..kernel.journal import AttemptFailed, CompensationAttemptFailed, Entry, RunCompleted
from ..kernel.run import RunStatus
from ..store import RunRecord
from ..workflow.registry import Registry
from .names import step_of, steps_of, steps_seen, written_in
from .plan import Faults
from .timeline import drawn
from .witness import WORKFLOW, Violation
from .world import World

RUN_ID = "run"


class Simulation:
    """The end of a simulation. ``deps`` is the object the handlers worked on."""

    def __init__(self, world: World, registry: Registry) -> None:
        self.world = world
        self.plan: Faults = world.plan
        self.deps: Any = world.deps
        self._entries: dict[str, list[Entry]] = {}
        self._histories: dict[str, list[Entry]] = {}
        self.registry = registry
        self._reader = Reader(world.codec, registry)
        weakref.finalize(self, world.bury)

    def __repr__(self) -> str:
        return f"<Simulation {self.status} under {self.plan!r}>"

    # --- the run -------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The run's status at the end: a terminal one, or ``suspended`` when it waits for what
        never came."""
        return self._record(RUN_ID).status

    @cached_property
    def result(self) -> Any:
        """The run's result; None unless it completed."""
        if self.status != RunStatus.COMPLETED.value:
            return None
        return self._reader.result(self._record(RUN_ID), self.entries(RUN_ID))

    @property
    def failure(self) -> Failure | None:
        """Why it failed."""
        text = self._record(RUN_ID).failure
        return None if text is None else failure_from_text(text)

    @property
    def info(self) -> RunInfo:
        """The run as ``engine.get`` would give it."""
        return self._reader.info(self._record(RUN_ID), self.result)

    @property
    def waiting_for(self) -> tuple[Wait, ...]:
        """What it waits for, if it has not ended."""
        return self.info.waiting_for

    @cached_property
    def journal(self) -> tuple[JournalEntry, ...]:
        """Everything that happened to it, in commit order."""
        return self._reader.journal(self._record(RUN_ID), self.entries(RUN_ID))

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of all runs: the run, and its children and theirs."""
        return tuple(self.world.stored)

    # --- what was done -------------------------------------------------------------------------

    def invocations(self, unit: str) -> int:
        """How often the unit's handler was called (``"undo pay"`` for a compensator)."""
        self._check_unit(unit)
        return sum(call.label == unit for call in self.world.calls)

    def committed(self, unit: str) -> int:
        """How often the unit was committed as completed (``"undo pay"``: as compensated), over
        all generations of the run."""
        self._check_unit(unit)
        kind = "unit_compensated" if unit.startswith("undo ") else "unit_completed"
        path = unit.removeprefix("undo ")
        return sum(
            entry.kind == kind and str(entry.unit) == path
            for run_id in self.runs
            for entry in self.history(run_id)
        )

    @property
    def fired(self) -> Counter[str]:
        """How often each kind of fault happened."""
        return self.world.mishaps.fired

    def timeline(self, event: int | None = None) -> str:
        """What happened, line by line; this event of the chronicle is pointed at."""
        return drawn(self.world.chronicle, event)

    @property
    def complaints(self) -> tuple[Violation, ...]:
        """What the workflow's handlers did that works only while nothing goes wrong: values changed
        in place, results that come back as others, tasks that nobody waits for."""
        return tuple(one for one in self.world.witness.breaches if one.name == WORKFLOW)

    @property
    def trace(self) -> str:
        """A hash over everything that happened; equal for equal plans."""
        text = "\n".join(map(repr, self.world.chronicle))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    # --- inside --------------------------------------------------------------------------------

    def entries(self, run_id: str) -> list[Entry]:
        """The kernel's journal of one of the runs."""
        if run_id not in self._entries:
            run = self.world.stored[run_id]
            self._entries[run_id] = [entry_from_record(record) for _, record in run.entries]
        return self._entries[run_id]

    def history(self, run_id: str) -> list[Entry]:
        """All entries that one of the runs ever had: also those of before it began anew."""
        if run_id not in self._histories:
            records = self.world.witness.history.get(run_id, [])
            self._histories[run_id] = [entry_from_record(record) for record in records]
        return self._histories[run_id]

    def outcome(self) -> tuple[Any, ...]:
        """What must not depend on the schedule: status, result, and what was done to which unit,
        of every run; without order, times and attempts that were followed by another. A child
        run is called by its place: its id depends on when its parent was started."""
        places = self.places
        return tuple(
            (place, self._record(run_id).status, self._facts(run_id, places))
            for place, run_id in sorted((place, run_id) for run_id, place in places.items())
        )

    @cached_property
    def places(self) -> dict[str, str]:
        """By the id of each run its place: the run's id, then the units that began a child."""
        places: dict[str, str] = {}
        for run_id, run in self.world.stored.items():  # a child comes after its parent
            place = run_id
            if run.new.parent_id is not None:
                place = f"{places.get(run.new.parent_id, '?')}/{run.new.parent_unit}"
            while place in places.values():
                place += "+"  # begun again, in another generation
            places[run_id] = place
        return places

    def _facts(self, run_id: str, places: dict[str, str]) -> frozenset[tuple[Any, ...]]:
        facts: Counter[tuple[Any, ...]] = Counter()
        for entry in self.entries(run_id):
            if isinstance(entry, AttemptFailed | CompensationAttemptFailed):
                continue
            payload = getattr(entry, "payload", None)
            if isinstance(entry, RunCompleted):
                payload = (payload, str(entry.shape))
            failure = getattr(entry, "failure", None)
            said = None if failure is None else f"{failure.type}: {failure.message}"
            if said is not None and len(places) > 1:
                for child_id, place in places.items():
                    said = said.replace(child_id, place) if child_id != RUN_ID else said
            facts[(entry.kind, str(entry.unit), payload, said)] += 1
        return frozenset(facts.items())

    def _record(self, run_id: str) -> RunRecord:
        return self.world.stored[run_id].record()

    def _check_unit(self, unit: str) -> None:
        step, known = step_of(unit), steps_of(self.registry) | steps_seen(self)
        if step not in known | written_in(self.registry):
            raise DurableError(
                f"no step is called {step!r}; there are {', '.join(sorted(known)) or 'none'}"
            )
