"""Attempting: the attempt at a unit, or at its compensation, as it is handed to the engine."""

from __future__ import annotations

from .fold import Fold
from .outcome import Attempt, AttemptKey
from .replay import Frontier
from .step import Call


def attempt_of(frontier: Frontier, fold: Fold, key: AttemptKey) -> Attempt:
    """The next attempt, with what a suspended handler was resumed with."""
    done = fold.units.get(key.unit)
    state = fold.undos.get(key.unit) if key.compensating else done
    call, undo = None, None
    if key.compensating:
        step, undo = frontier.undos[key.unit]
        call = step if isinstance(step, Call) else None
    else:
        asked = frontier.leaves[key.unit].step
        assert isinstance(asked, Call)
        call = asked
    resumed = state is not None and state.data is not None
    return Attempt(
        key=key,
        number=1 if state is None else state.attempts + 1,
        generation=fold.generation,
        call=call,
        undo=undo,
        value=done.payload if key.compensating and done is not None else None,
        snapshot=state.snapshot if resumed and state is not None else None,
        data=state.data if resumed and state is not None else None,
    )
