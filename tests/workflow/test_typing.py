"""Types: what mypy makes of definitions and contexts; it checks this file like any other.

Two files are handed to it here as a user's: ``typed/uses.py`` must pass under ``--strict``, and in
``typed/mistakes.txt`` exactly the marked lines must be found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, assert_type

import attrs

from durable_core.workflow import SKIP, Branch, StepContext, Suspend, Undo, Workflow


@attrs.frozen
class Cart:
    items: list[str]


@attrs.frozen
class Shop:
    name: str


@attrs.frozen
class Receipt:
    total: int


async def reserve(ctx: StepContext[Shop, Cart]) -> Receipt:
    assert_type(ctx.input, Cart)
    assert_type(ctx.deps, Shop)
    return Receipt(len(ctx.input.items))


def approve(ctx: StepContext[Shop, Cart]) -> Receipt | Suspend:
    return Suspend({"asked": True})


async def agree(ctx: StepContext[Shop, Cart]) -> Receipt | Suspend:
    return Receipt(1)


def read(ctx: StepContext[Shop, Cart]) -> int:
    assert_type(ctx.result(reserve), Receipt)
    assert_type(ctx.result(approve), Receipt)
    assert_type(ctx.result(agree), Receipt)
    assert_type(ctx.result("reserve", Receipt), Receipt)
    assert_type(ctx.result("pick", list[int]), list[int])
    return 1


async def release(ctx: StepContext[Shop, object]) -> None:
    """Of no matter which input: a context is covariant."""


def pick(ctx: StepContext[Shop, Cart], item: str) -> str:
    return item


def test_a_workflow_knows_its_input_and_its_result() -> None:
    untyped = Workflow("w")
    assert_type(untyped, Workflow[Any, dict[str, Any]])
    typed = Workflow("w", input=Cart)
    assert_type(typed, Workflow[Cart, dict[str, Any]])
    built = (
        typed.step("reserve", reserve, compensate=release)
        .parallel("both", {"a": approve, "b": Branch(reserve, compensate=Undo(release))})
        .map("pick", lambda ctx: ctx.input.items, pick)
        .route("r", lambda ctx: "x", {"x": read, "y": Branch(read)}, otherwise=SKIP)
        .loop("l", read, until=lambda result, n: n > result)
        .child("c", "other", input=lambda ctx: 1)
    )
    assert_type(built, Workflow[Cart, dict[str, Any]])
    assert_type(built.returns(lambda ctx: ctx.result(reserve)), Workflow[Cart, Receipt])
    assert_type(built.returns(lambda ctx: ctx.input), Workflow[Cart, Cart])


def test_a_type_form_is_an_input_too() -> None:
    workflow = Workflow("w", input=int | None)
    assert workflow.input_type == int | None


def test_a_handler_of_another_input_is_found_by_the_type_checker() -> None:
    Workflow("w", input=Receipt).step("a", reserve)  # type: ignore[arg-type]
    Workflow("w", input=Receipt).step("a", release)


HERE = Path(__file__).parent
REPORTED = re.compile(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$")
MARKED = re.compile(r"# E: ([\w,-]+)$")


def strictly(folder: Path) -> list[str]:
    """What ``mypy --strict`` says of the folder's modules, with none of our own settings."""
    sources = HERE.parents[1] / "src"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
            *("--no-error-summary", "--hide-error-context", "--no-pretty"),
            *("--cache-dir", str(folder / "cache")),
            *sorted(path.name for path in folder.glob("*.py")),
        ],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(sources)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if ": note: " not in line]


def test_mypy_passes_a_users_modules_and_finds_every_seeded_mistake(tmp_path: Path) -> None:
    seeded = set()
    for name in ("mistakes", "mistakes_async"):
        mistakes = (HERE / "typed" / f"{name}.txt").read_text(encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(mistakes, encoding="utf-8")
        seeded |= {
            (name, number, code)
            for number, line in enumerate(mistakes.splitlines(), start=1)
            if (mark := MARKED.search(line))
            for code in mark[1].split(",")
        }
    for name in ("uses.py", "uses_async.py"):
        text = (HERE / "typed" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(seeded) > 35
    said = strictly(tmp_path)
    found = {REPORTED.match(line) for line in said}
    assert None not in found, said
    assert {(m[1], int(m[2]), m[3]) for m in found if m} == seeded
