"""Replaying: every body of a simulation once more over its journal, at another date, with other
random numbers; what it asks for must be what it asked for before.

The journal holds only what a step was called and what it gave. That a body gives a step another
argument after a crash is in no journal, and a simulation shows it only where somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import NondeterminismError
from ..kernel import journal as j
from ..kernel.ids import UnitKey, idempotency_key
from ..kernel.journal import Journal
from ..kernel.outcome import Outcome
from ..kernel.program import Program, ProgramFactory
from ..kernel.recorder import Recorder
from ..kernel.run import RunContext
from ..kernel.step import All, Ask, Call, First
from ..kernel.transition import Held
from ..workflow.coded import CodedWorkflow
from ..workflow.registry import Lowering
from ..workflow.step_scope import StepScope
from .alike import alike, shown
from .given import NOTHING, copied
from .surroundings import draw_anew, simulated
from .virtual_time import VirtualTime
from .witness import WORKFLOW, Violation

ANOTHER_DATE_MS = 1_900_000_000_000

Asked = dict[UnitKey, Any]


def replayed_otherwise(sim: Any) -> Iterator[Violation]:
    """Where a body is not the same when it is replayed."""
    for run_id, stored in sim.world.stored.items():
        new = stored.new
        definition = sim.registry.get(new.workflow, new.version)
        if isinstance(definition, CodedWorkflow):
            for sentence, unit in _differences(sim, definition, run_id, stored):
                yield Violation(WORKFLOW, sentence, unit)


def _differences(sim: Any, definition: Any, run_id: str, stored: Any) -> Iterator[tuple[str, str]]:
    new = stored.new
    run = RunContext(
        run_id=run_id,
        workflow=new.workflow,
        version=new.version,
        fingerprint=new.fingerprint,
        input=new.input,
        created_at_ms=stored.created_at_ms,
    )
    deps = copied(sim.deps)
    lowering = Lowering(
        codec=sim.world.codec, registry=sim.registry, deps=sim.deps if deps is NOTHING else deps
    )
    asked: Asked = {}
    entries = sim.entries(run_id)
    held = Held(run, _watched(definition.program(lowering), asked), Journal(entries))
    with simulated(VirtualTime(ANOTHER_DATE_MS)):
        draw_anew(1, "a replay", run_id)
        try:
            held.restart()
        except NondeterminismError as error:
            yield f"its body asks for something else when it is replayed: {error}", ""
            return
        finally:
            held.close()
    yield from _arguments_differ(sim, run_id, held.generation, asked)
    assert held._frontier is not None
    ending = held._frontier.ending
    for entry in entries:
        if isinstance(entry, j.RunCompleted) and ending is not None:
            before, after = entry.payload, ending.payload
            if before is not None and after is not None and before.data != after.data:
                yield (
                    f"its body gives {_text(after)} when it is replayed, and gave {_text(before)}: "
                    "it looks at something that no journal has; use ctx.now(), ctx.random() or "
                    "ctx.uuid(), or read it in a step",
                    "",
                )


def _arguments_differ(
    sim: Any, run_id: str, generation: int, asked: Asked
) -> Iterator[tuple[str, str]]:
    for unit, call in asked.items():
        before = sim.world.conduct.asked.get(idempotency_key(run_id, generation, unit), NOTHING)
        if before is NOTHING or call is NOTHING or alike(before, call):
            continue
        yield (
            f"its body calls it with {_called(call)} when it is replayed, and called it with "
            f"{_called(before)}: it looks at something that no journal has, or a step has changed "
            "its variables; use ctx.now(), ctx.random() or ctx.uuid(), or read it in a step",
            str(unit),
        )


def _called(call: Any) -> str:
    args, kwargs = call
    return f"({', '.join([*map(shown, args), *(f'{k}={shown(v)}' for k, v in kwargs.items())])})"


def _text(payload: Any) -> str:
    return str(payload.data[:200].decode(errors="replace"))


# --- what is asked for ---------------------------------------------------------------------------


def _watched(factory: ProgramFactory, asked: Asked) -> ProgramFactory:
    def begin(run: RunContext, recorder: Recorder) -> Program:
        return _Watched(factory(run, recorder), asked)

    return begin


class _Watched:
    """A program whose calls are written down, with their arguments as they are then."""

    def __init__(self, program: Program, asked: Asked) -> None:
        self._program = program
        self._asked = asked

    def send(self, outcome: Outcome | None, /) -> Ask:
        """As ``Program.send``."""
        return self._see(self._program.send(outcome))

    def close(self) -> None:
        """As ``Program.close``."""
        self._program.close()

    def _see(self, ask: Ask) -> Ask:
        todo = [ask]
        while todo:
            one = todo.pop()
            if isinstance(one, All | First):
                todo += one.steps
            elif isinstance(one, Call) and isinstance(one.scope, StepScope):
                self._asked[one.unit] = copied(one.scope.call)
        return ask
