"""Findings: what can be seen to be wrong in a definition without running it.

An ``error`` is a mistake under some schedule: a function that shapes the run reads the clock, a
random number, or a variable that handlers change. A ``note`` may be meant: a wait without an end,
a step without a time-out. Ordinary code gives no errors.
"""

from __future__ import annotations

import datetime
import dis
import os
import random
import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from ..workflow.coded import CodedWorkflow
from ..workflow.nodes import RUN_INPUT, LoopNode, Node, SignalNode, StepNode
from ..workflow.registry import Definition
from ..workflow.steps import Step
from .references import BODY, Role, Variable, kept_outside, named_in, plain, roles_of, uses_of
from .slips import slips_in

Severity = Literal["error", "note"]

ITERATIONS_MANY = 5_000
"""A loop that may go on for longer than this probably lacks a bound."""
ITERATIONS_DEFAULT = 1_000
"""What ``max_iterations`` is when nobody says it."""

CLOCKS = (
    *(time.time, time.time_ns, time.monotonic, time.monotonic_ns),
    *(time.perf_counter, time.perf_counter_ns, time.localtime, time.gmtime),
)
CHANCES = (
    *(uuid.uuid1, uuid.uuid4, os.urandom, os.getpid, random.SystemRandom),
    *(secrets.token_bytes, secrets.token_hex, secrets.token_urlsafe),
    *(secrets.choice, secrets.randbelow, secrets.randbits),
)
NOWS = ("now", "utcnow", "today")
SHARED_RANDOM: Any = random.random.__self__  # type: ignore[attr-defined]
"""What ``random.random`` and its like are methods of."""


@attrs.frozen(slots=True)
class Finding:
    """What is wrong with a step (``returns``: with that function), and how to mend it."""

    step: str
    what: str
    mend: str
    severity: Severity = "error"

    def __str__(self) -> str:
        where = "the body" if self.step == BODY else f"step {self.step!r}"
        return f"{self.severity}: {where}: {self.what}; {self.mend}"


def findings(workflow: Definition) -> tuple[Finding, ...]:
    """Everything that can be seen to be wrong with a definition, errors first."""
    changed = kept_outside((workflow,))
    found = [one for role in roles_of(workflow) for one in _of_function(role, changed)]
    for node in getattr(workflow, "nodes", ()):
        found += _of_node(node)
    if isinstance(workflow, CodedWorkflow):
        found += _of_body(workflow)
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda one: one.severity != "error"))


# --- functions -----------------------------------------------------------------------------------


def _of_function(role: Role, changed: tuple[Variable, ...]) -> Iterator[Finding]:
    if role.what == "compensate":
        yield from _of_compensator(role, changed)
    if not role.shapes:
        return
    if role.what == BODY:
        yield from _of_code(role, changed)
        return
    for function, use in role.uses():
        via = "" if function is plain(role.function) else f" (in {function.__qualname__})"
        unsteady = _unsteady(use.value)
        if unsteady is not None:
            yield Finding(
                role.step,
                f"{role.what} reads {unsteady}, {use.dotted}{via}: asked again after a crash, it "
                "says something else",
                f"read it in a step before, and let {role.what} look at that step's result",
                "note" if role.what == "duration" else "error",
            )
        elif use.reads and use.variable in changed:
            yield Finding(
                role.step,
                f"{role.what} reads {use.dotted}{via}, a variable outside of it that changes "
                "while runs go on: another process has another one",
                "let it look at nothing but its arguments; keep what it needs in results",
            )


def _of_compensator(role: Role, changed: tuple[Variable, ...]) -> Iterator[Finding]:
    remembers = [
        use.dotted
        for _, use in role.uses()
        if use.reads and use.variable is not None and use.variable in changed
    ]
    mend = "look at ctx.value (the unit's own result), ctx.results, or ctx.idempotency_key"
    if remembers:
        names = ", ".join(dict.fromkeys(remembers))
        yield Finding(
            role.step,
            f"its compensator reads {names}, a variable outside of it that changes while runs go "
            "on: the process that undoes may be another one, which does not remember",
            mend,
        )
    elif _ignores_context(role.function):
        yield Finding(
            role.step,
            "its compensator never reads ctx: how does it know what to undo",
            mend,
            "note",
        )


def _unsteady(value: Any) -> str | None:
    """What kind of thing this is, if it is never the same twice."""
    owner = getattr(value, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, datetime.date):
        return "the clock" if value.__name__ in NOWS else None
    if owner is SHARED_RANDOM and getattr(value, "__name__", "") not in ("seed", "setstate"):
        return "a random number"
    if any(value is clock for clock in CLOCKS):
        return "the clock"
    return "a random number" if any(value is chance for chance in CHANCES) else None


def _ignores_context(function: Any) -> bool:
    """Whether it does something, and never looks at its context."""
    found = plain(function)
    if found is None or not found.__code__.co_names:
        return False
    code = found.__code__
    position = 1 if code.co_varnames[:1] == ("self",) else 0
    if code.co_argcount <= position:
        return False
    context = code.co_varnames[position]
    loads = {use.dotted.split(".")[0] for use in uses_of(found)}
    return context not in loads and not _loads_local(code, context)


def _loads_local(code: Any, name: str) -> bool:
    return name in code.co_cellvars or any(
        name in (step.argval if isinstance(step.argval, tuple) else (step.argval,))
        for step in dis.get_instructions(code)
        if "LOAD" in step.opname
    )


# --- bodies of code ------------------------------------------------------------------------------


def _of_code(role: Role, changed: tuple[Variable, ...]) -> Iterator[Finding]:
    """What a body looks at outside, and is not the same when it is replayed."""
    for function, use in role.uses():
        via = "" if function is plain(role.function) else f" (in {function.__qualname__})"
        unsteady = _unsteady(use.value)
        if unsteady is not None:
            mend = "ctx.now()" if unsteady == "the clock" else "ctx.random() (or ctx.uuid())"
            yield Finding(
                BODY,
                f"it reads {unsteady}, {use.dotted}{via}: when it is replayed after a crash, that "
                "says something else",
                f"use {mend}, which is the same on every replay, or read it in a step",
            )
        elif use.changes and use.variable is not None:
            yield Finding(
                BODY,
                f"it changes {use.dotted}{via}, a variable outside of it: it does that again each "
                "time it is replayed",
                "keep it in a variable of the body, or do it in a step",
            )
        elif use.reads and use.variable in changed:
            yield Finding(
                BODY,
                f"it reads {use.dotted}{via}, a variable outside of it that changes while runs go "
                "on: another process has another one",
                "let it look at nothing but its input and what its steps give",
            )
        elif use.value is open:
            yield Finding(
                BODY,
                f"it opens a file{via}: it does that again each time it is replayed, and finds "
                "something else",
                "do it in a step",
            )


def _of_body(workflow: CodedWorkflow[Any, Any]) -> Iterator[Finding]:
    """What its text says, and the steps it names."""
    for function in Role(BODY, BODY, workflow.body).functions:
        for one in slips_in(function):
            yield Finding(BODY, one.what, one.mend)
    for name, step in named_in(workflow).items():
        if isinstance(step, Step) and step.work.timeout_ms is None:
            yield _without_timeout(name)


def _without_timeout(step: str) -> Finding:
    return Finding(
        step,
        "it has no timeout: a handler that hangs holds the run for ever",
        "give timeout=, longer than the handler ever takes",
        "note",
    )


# --- nodes ---------------------------------------------------------------------------------------


def _of_node(node: Node) -> Iterator[Finding]:
    match node:
        case SignalNode(timeout_ms=None):
            yield Finding(
                node.name,
                "it waits for a signal without a timeout: if that never comes, the run never ends",
                "give timeout=, and on_timeout='continue' if that is no failure",
                "note",
            )
        case StepNode() if node.work.timeout_ms is None:
            yield _without_timeout(node.name)
        case LoopNode():
            yield from _of_loop(node)
        case _:
            pass


def _of_loop(node: LoopNode) -> Iterator[Finding]:
    if node.until is not None and node.feedback is None and node.initial is not RUN_INPUT:
        yield Finding(
            node.name,
            "it has initial= and no feedback=, so every iteration gets the same value",
            "say feedback=, which makes the next value of a result",
            "note",
        )
    if node.max_iterations > ITERATIONS_MANY:
        yield Finding(
            node.name,
            f"it may go on for {node.max_iterations:,} iterations, each of them in the journal",
            "give a smaller max_iterations, or do batches in child workflows",
            "note",
        )
    elif node.until is None and node.max_iterations == ITERATIONS_DEFAULT:
        yield Finding(
            node.name,
            f"it has no until=, so it always makes {ITERATIONS_DEFAULT:,} iterations",
            "say until=, or max_iterations= if that is how many are meant",
            "note",
        )
