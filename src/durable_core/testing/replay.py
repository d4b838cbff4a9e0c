"""Replay: exported runs against today's definition, and an old definition against a new one.

``replay`` drives the real kernel over a recorded journal and calls no handler. It tells whether
the run would go on, and whether everything recorded can still be read. ``check_upgrade`` compares
two definitions for every place where a run may stand, and replays real runs if it is given any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from ..codec.payload import Codec, JsonCodec
from ..codec.records import entry_from_record
from ..engine.client import exporting
from ..engine.client.exporting import RunExport
from ..errors import DurableError, EncodingError, NondeterminismError
from ..kernel import journal as j
from ..kernel.fold import Fold
from ..kernel.journal import Journal
from ..kernel.run import RunContext
from ..kernel.transition import Held
from ..workflow import loose
from ..workflow.definition import Workflow
from ..workflow.registry import Definition, Lowering, Registry
from ..workflow.upgrade import Row, Upgrade, changed_meanings, compare
from .simulation import RUN_ID, Simulation

__all__ = ["Replay", "Upgrade", "check_upgrade", "exported", "replay"]


@attrs.frozen(slots=True)
class Replay:
    """What came of a replay.

    ``error``: why the run would be parked; it has ``unit``, ``recorded`` and ``asked``.
    ``unreadable``: recorded values that today's types do not read. ``done`` are the steps that
    have ended, in order, ``begun`` the ones that have not.
    """

    run_id: str
    workflow: str
    error: NondeterminismError | None
    unreadable: tuple[str, ...]
    done: tuple[str, ...]
    begun: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the run would go on, with every recorded value as it was."""
        return self.error is None and not self.unreadable

    def check(self) -> None:
        """Raises ``NondeterminismError`` or ``EncodingError`` unless the run fits."""
        if self.error is not None:
            raise self.error
        if self.unreadable:
            raise EncodingError("; ".join(self.unreadable))

    def __str__(self) -> str:
        if self.error is not None:
            return f"run {self.run_id!r} would be parked: {self.error}"
        if self.unreadable:
            return f"run {self.run_id!r} cannot be read: {'; '.join(self.unreadable)}"
        where = f"in {', '.join(self.begun)}" if self.begun else f"after {len(self.done)} steps"
        return f"run {self.run_id!r} fits, {where}"


def replay(
    workflow: Definition,
    journal: RunExport | Simulation,
    *,
    children: Sequence[Definition] = (),
    codec: Codec | None = None,
) -> Replay:
    """Replay a run against this definition, without calling any handler.

    ``journal`` is what ``engine.export(run_id)`` gave (``RunExport.from_json`` reads it from a
    file), or a simulation. ``children``: workflows that are children by name only. ``codec``:
    that of the engine, if it is not the usual one. Raises ``EncodingError`` for a journal that is
    corrupt.
    """
    run = _run_of(journal)
    if run.workflow != workflow.name:
        raise DurableError(
            f"run {run.run_id!r} is one of workflow {run.workflow!r}, not of {workflow.name!r}"
        )
    used = JsonCodec() if codec is None else codec
    entries = Journal([entry_from_record(record) for record in run.entries])
    lowering = Lowering(codec=used, registry=Registry((workflow, *children)))
    held = Held(_context(run), workflow.program(lowering), entries)
    error: NondeterminismError | None = None
    try:
        held.restart()
    except NondeterminismError as raised:
        error = raised.with_traceback(None)
    finally:
        held.close()
    done, begun = _steps(Fold.of(run.run_id, entries), held)
    return Replay(
        run_id=run.run_id,
        workflow=workflow.name,
        error=error,
        unreadable=tuple(_unreadable(workflow, run, entries, used)),
        done=done,
        begun=begun,
    )


def check_upgrade(
    old: Workflow[Any, Any],
    new: Workflow[Any, Any],
    runs: Iterable[RunExport | Simulation] = (),
    *,
    children: Sequence[Definition] = (),
    codec: Codec | None = None,
) -> Upgrade:
    """What a new definition means for the runs of the old one.

    Without ``runs`` every place where a run may stand is judged, at its worst; with them, those
    runs, each by a replay of its journal. The answer is ``safe`` if all continue; its text says
    what would become of the others, and why. Policies (retry, timeout) may change freely, those of
    compensators too: the next attempt goes by the new ones. Of a compensator its name is compared,
    not what its code does.
    """
    given = list(runs)
    if not given:
        return compare(old, new)
    return Upgrade(tuple(_row(old, new, replay(new, run, children=children, codec=codec))
                         for run in given))  # fmt: skip


def exported(sim: Simulation, run_id: str = RUN_ID) -> RunExport:
    """A simulated run as ``engine.export`` would give it."""
    run = sim.world.stored[run_id]
    return exporting.exported(run.record(), [entry for _, entry in run.entries])


# --- inside --------------------------------------------------------------------------------------


def _run_of(journal: object) -> RunExport:
    if isinstance(journal, RunExport):
        return journal
    if isinstance(journal, Simulation):
        return exported(journal)
    raise DurableError(
        "a run to replay is what engine.export(run_id) gives (or RunExport.from_json, or a "
        f"simulation), not {type(journal).__name__}: the entries of engine.journal() are decoded, "
        "and without what only replay needs"
    )


def _context(run: RunExport) -> RunContext:
    return RunContext(
        run_id=run.run_id,
        workflow=run.workflow,
        version=run.version,
        fingerprint=run.fingerprint,
        input=run.input,
        created_at_ms=run.created_at_ms,
        parent_id=run.parent_id,
        parent_unit=run.parent_unit,
        depth=run.depth,
        deadline_ms=run.deadline_ms,
    )


def _steps(fold: Fold, held: Held) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recorded steps that have ended, and those where the program stands, in order."""
    assert held._frontier is not None
    leaves = held._frontier.leaves.items()
    standing = {unit[0] for unit, leaf in leaves if leaf.outcome is None}
    steps = dict.fromkeys(unit[0] for unit in fold.units)
    return (
        tuple(step for step in steps if step not in standing),
        tuple(step for step in steps if step in standing),
    )


_TYPED = (j.UnitCompleted, j.SignalConsumed, j.ChildCompleted, j.ItemsRecorded)


def _unreadable(
    workflow: Definition, run: RunExport, entries: Iterable[j.Entry], codec: Codec
) -> Iterator[str]:
    """What of the run cannot be read by today's types."""
    values = [("the input", run.input, workflow.input_type)]
    for entry in entries:
        if isinstance(entry, _TYPED):
            what = f"the value of {str(entry.unit)!r}"
            values.append((what, entry.payload, workflow.unit_type(entry.unit)))
    for what, payload, type_ in values:
        try:
            loose.decode(codec, payload, type_, what=what)
        except EncodingError as error:
            yield str(error)


def _row(old: Workflow[Any, Any], new: Workflow[Any, Any], result: Replay) -> Row:
    position = f"run {result.run_id!r}"
    if result.error is not None:
        return Row(result.workflow, position, "parks", (str(result.error),))
    begun = result.begun[0] if result.begun else None
    reasons = (*result.unreadable, *changed_meanings(old, new, result.done, begun))
    return Row(result.workflow, position, "wrong" if reasons else "continues", reasons)
