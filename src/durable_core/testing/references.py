"""References: what the functions of a definition call, read and change outside of themselves.

Found by looking at code objects, without calling anything. What cannot be seen so (attributes of
objects, functions of other modules) is left out: better nothing said than a wrong alarm.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import attrs

from ..workflow.coded import CodedWorkflow
from ..workflow.nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    RouteNode,
    SignalNode,
    SleepNode,
    works_of,
)
from ..workflow.registry import Definition
from ..workflow.steps import Step

CONTAINERS = (list, dict, set, bytearray, deque)
CHANGES = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
        *("add", "discard", "update", "popitem", "setdefault", "appendleft", "popleft"),
        *("difference_update", "intersection_update", "symmetric_difference_update", "subtract"),
    }
)
"""Methods that change a container."""
GIVING = frozenset({"pop", "popitem", "setdefault", "popleft"})
"""Those of them that also tell what was in it."""

LOADS = ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_NAME")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
STORES = ("STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF")
SUBSCRIPTS = ("STORE_SUBSCR", "DELETE_SUBSCR")

BODY = "body"
"""What the body of a workflow is called, as a step and as a role."""


@attrs.frozen(slots=True)
class Role:
    """A function of a definition: its step (or ``returns``, or ``body``), and what it is for."""

    step: str
    what: str
    function: Any

    @property
    def shapes(self) -> bool:
        """Whether it shapes the run, where a handler does its work."""
        return self.what not in ("handler", "compensate")

    @property
    def functions(self) -> tuple[FunctionType, ...]:
        """The function and what it reaches: a body what it calls, not what it only names, since
        that is handed to ``ctx.step``."""
        return reached(self.function, called=self.what == BODY)

    def uses(self) -> Iterator[tuple[FunctionType, Use]]:
        """What these use from outside."""
        for function in self.functions:
            for use in uses_of(function, nested=self.what != BODY):
                yield function, use


@attrs.frozen(slots=True)
class Variable:
    """A name outside of a function: a global of its module, or one of an enclosing function."""

    name: str
    place: int
    """The address of the module's globals, or of the cell."""
    holder: Any = attrs.field(eq=False, repr=False)

    def get(self) -> Any:
        """What it holds. Raises ``LookupError`` if it holds nothing."""
        if isinstance(self.holder, CellType):
            try:
                return self.holder.cell_contents
            except ValueError:
                raise LookupError(self.name) from None
        return self.holder[self.name]

    def set(self, value: Any) -> None:
        """Let it hold this."""
        if isinstance(self.holder, CellType):
            self.holder.cell_contents = value
        else:
            self.holder[self.name] = value


# --- the functions of a definition ---------------------------------------------------------------


def roles_of(workflow: Definition) -> Iterator[Role]:
    """Every function that the author of a workflow has given it."""
    if isinstance(workflow, CodedWorkflow):
        yield from _roles_of_body(workflow)
    for node in getattr(workflow, "nodes", ()):
        for what, function in _shaping(node):
            if callable(function):
                yield Role(node.name, what, function)
        for entry, work in works_of(node):
            step = node.name if entry is None else f"{node.name}/{entry}"
            yield Role(step, "handler", work.handler)
            if work.undo is not None:
                yield Role(step, "compensate", work.undo.handler)
        if isinstance(node, ChildNode) and node.undo is not None:
            yield Role(node.name, "compensate", node.undo.handler)
    returned = getattr(workflow, "returned", None)
    if returned is not None:
        yield Role("returns", "returns", returned)


def _roles_of_body(workflow: CodedWorkflow[Any, Any]) -> Iterator[Role]:
    body = Role(BODY, BODY, workflow.body)
    yield body
    for name, found in named_in(workflow).items():
        if isinstance(found, Step):
            yield Role(name, "handler", found.function)
            if found.work.undo is not None:
                yield Role(name, "compensate", found.work.undo.handler)
        else:
            yield Role(name, "handler", found)


def named_in(workflow: CodedWorkflow[Any, Any]) -> dict[str, Any]:
    """The steps that a body names, by name, and the plain functions that it hands on."""
    found: dict[str, Any] = {}
    for _, use in Role(BODY, BODY, workflow.body).uses():
        value = use.value
        if isinstance(value, Step):
            found.setdefault(value.key or value.name, value)
        elif isinstance(value, FunctionType) and not use.called:
            found.setdefault(value.__name__, value)
    return found


def strings_in(workflow: CodedWorkflow[Any, Any]) -> frozenset[str]:
    """The strings that a body writes out, or has under a name: keys and signals among them."""
    found: set[str] = set()
    for function in Role(BODY, BODY, workflow.body).functions:
        found.update(use.value for use in uses_of(function) if isinstance(use.value, str))
        codes = [function.__code__]
        while codes:
            for constant in codes.pop().co_consts:
                if isinstance(constant, CodeType):
                    codes.append(constant)
                elif isinstance(constant, str):
                    found.add(constant)
                elif isinstance(constant, tuple | frozenset):
                    found.update(one for one in constant if isinstance(one, str))
    return frozenset(found)


def _shaping(node: Node) -> tuple[tuple[str, Any], ...]:
    match node:
        case MapNode():
            return (("items", node.items),)
        case RouteNode():
            return (("select", node.select),)
        case LoopNode():
            return (
                ("initial", node.initial),
                ("until", node.until),
                ("feedback", node.feedback),
            )
        case SleepNode():
            return (("duration", node.duration),)
        case SignalNode():
            return (("signal", node.signal),)
        case ChildNode():
            return (("input", node.input),)
        case _:
            return ()


def plain(function: Any) -> FunctionType | None:
    """The Python function behind partials, methods, wrappers and callable objects, if any."""
    for _ in range(20):
        if isinstance(function, FunctionType):
            wrapped = getattr(function, "__wrapped__", None)
            if wrapped is None:
                return function
            function = wrapped
        elif isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__func__"):
            function = function.__func__
        elif isinstance(function, type) or isinstance(type(function), FunctionType):
            return None
        else:
            function = getattr(type(function), "__call__", None)  # noqa: B004  # the method
    return None


def reached(function: Any, *, called: bool = False) -> tuple[FunctionType, ...]:
    """The function, and those of its module that it names, and so on. ``called``: only those that
    it calls itself."""
    first = plain(function)
    if first is None:
        return ()
    found: dict[int, FunctionType] = {id(first): first}
    todo = [first]
    while todo:
        current = todo.pop()
        for use in uses_of(current):
            other = plain(use.value) if isinstance(use.value, FunctionType) else None
            if called and not use.called:
                continue
            if other is None or other.__module__ != first.__module__ or id(other) in found:
                continue
            found[id(other)] = other
            todo.append(other)
    return tuple(found.values())


# --- one function --------------------------------------------------------------------------------


@attrs.frozen(slots=True)
class Use:
    """One place where a function uses a name from outside: the dotted name, what it stands for,
    and whether that is changed there, its content looked at, or it is called."""

    dotted: str
    value: Any
    variable: Variable | None = None
    changes: bool = False
    reads: bool = True
    called: bool = False


def uses_of(function: FunctionType, *, nested: bool = True) -> tuple[Use, ...]:
    """What a function uses from outside, comprehensions included, and ``nested`` functions."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return tuple(_uses(function.__code__, function.__globals__, cells, {}, nested))


def _uses(
    code: CodeType,
    names: dict[str, Any],
    cells: Mapping[str, CellType],
    imported: dict[str, Any],
    nested: bool,
) -> Iterator[Use]:
    """``imported``: what the function itself has imported, by local name."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for number, step in enumerate(steps):
        name = str(step.argval)
        if step.opname == "IMPORT_NAME":
            imported.update(_imported(steps, number))
        elif step.opname in STORES and (variable := _variable(step, names, cells)) is not None:
            yield Use(name, None, variable, changes=True, reads=False)
        elif step.opname in SUBSCRIPTS:
            for target in _containers(steps, number):
                variable = _variable(target, names, cells)
                if variable is not None:
                    yield Use(variable.name, None, variable, changes=True, reads=False)
        elif step.opname in LOADS or (step.opname == "LOAD_FAST" and name in imported):
            yield _used(steps, number, names, cells, imported)
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and (nested or constant.co_name.startswith("<")):
            yield from _uses(constant, names, cells, dict(imported), nested)


def _used(
    steps: list[dis.Instruction],
    number: int,
    names: dict[str, Any],
    cells: Mapping[str, CellType],
    imported: Mapping[str, Any],
) -> Use:
    """The name that is loaded here, and the attributes of modules and classes after it."""
    step = steps[number]
    dotted, value = str(step.argval), _value(step, names, cells, imported)
    variable = _variable(step, names, cells)
    following = steps[number + 1] if number + 1 < len(steps) else step
    if isinstance(value, CONTAINERS) and following.opname in ATTRIBUTES:
        method = str(following.argval)
        changes = method in CHANGES
        return Use(dotted, value, variable, changes, not changes or method in GIVING)
    written = variable is not None and _is_written_back(steps, number)
    for after in steps[number + 1 :]:
        if after.opname not in ATTRIBUTES or not isinstance(value, ModuleType | type):
            break
        dotted, value = f"{dotted}.{after.argval}", getattr(value, str(after.argval), None)
    called = _is_called(steps, number)
    return Use(dotted, value, variable, reads=not written, called=called)


def _is_called(steps: list[dis.Instruction], number: int) -> bool:
    """Whether the name that is loaded here is called, and not handed on."""
    step = steps[number]
    if step.opname == "LOAD_GLOBAL":
        return bool((step.arg or 0) & 1)
    around = steps[max(0, number - 1) : number + 2]
    return any(one.opname == "PUSH_NULL" for one in around)


def _value(
    step: dis.Instruction,
    names: Mapping[str, Any],
    cells: Mapping[str, CellType],
    imported: Mapping[str, Any],
) -> Any:
    name = str(step.argval)
    if step.opname == "LOAD_FAST":
        return imported[name]
    variable = _variable(step, names, cells)
    if variable is None:
        return imported.get(name)
    try:
        return variable.get()
    except LookupError:
        return None


def _variable(step: dis.Instruction, names: Any, cells: Mapping[str, CellType]) -> Variable | None:
    name = str(step.argval)
    if step.opname.endswith("DEREF"):
        cell = cells.get(name)
        return None if cell is None else Variable(name, id(cell), cell)
    if step.opname.endswith(("GLOBAL", "NAME")) and (
        name in names or step.opname == "STORE_GLOBAL"
    ):
        return Variable(name, id(names), names)
    return None


def _imported(steps: list[dis.Instruction], number: int) -> Iterator[tuple[str, Any]]:
    """The local names that an import makes, with what they stand for."""
    module = sys.modules.get(str(steps[number].argval))
    top = sys.modules.get(str(steps[number].argval).split(".")[0])
    value: Any = top
    for step in steps[number + 1 :]:
        if step.opname == "IMPORT_FROM":
            value = getattr(module, str(step.argval), None)
        elif step.opname in ("STORE_FAST", "STORE_DEREF"):
            yield str(step.argval), value
        elif step.opname != "POP_TOP":
            return


def _is_written_back(steps: list[dis.Instruction], number: int) -> bool:
    """Whether the same line does nothing but change what is loaded here, as ``n += 1`` does."""
    line, name = _line_of(steps[number]), steps[number].argval
    for later in range(number + 1, len(steps)):
        step = steps[later]
        if _line_of(step) != line:
            return False
        if step.opname in SUBSCRIPTS and steps[number] in _containers(steps, later):
            return True
        if step.opname in STORES and step.argval == name:
            return True
    return False


def _containers(steps: list[dis.Instruction], number: int) -> list[dis.Instruction]:
    """Where the container was loaded that ``container[key] = ...`` at this place changes."""
    if steps[number - 1].opname == "SWAP":  # container[key] += ...
        line = _line(steps, number)
        return [step for step in steps[line:number] if step.opname in LOADS]
    depth, at = 0, number - 1
    while at > 0:
        try:
            depth += dis.stack_effect(steps[at].opcode, steps[at].arg, jump=False)
        except ValueError:
            return []
        if depth == 1:
            break
        at -= 1
    return [steps[at - 1]] if at > 0 and steps[at - 1].opname in LOADS else []


def _line(steps: list[dis.Instruction], number: int) -> int:
    """The first step of the line that this one belongs to."""
    line = _line_of(steps[number])
    while number > 0 and _line_of(steps[number - 1]) == line:
        number -= 1
    return number


def _line_of(step: dis.Instruction) -> int | None:
    return None if step.positions is None else step.positions.lineno


# --- all functions of a definition ---------------------------------------------------------------


def kept_outside(workflows: Iterable[Definition]) -> tuple[Variable, ...]:
    """The variables outside of their functions that functions of these workflows change."""
    found: dict[Variable, None] = {}
    for workflow in workflows:
        for role in roles_of(workflow):
            for _, use in role.uses():
                if use.changes and use.variable is not None:
                    found[use.variable] = None
    return tuple(found)
