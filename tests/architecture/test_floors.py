"""The floors hold: imports go strictly down, and nothing below the engine reaches the world."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "durable_core"
FREE = {"engine", "testing"}
"""What may touch clock and network; every other part of the core is pure."""


def contracts() -> dict[str, dict[str, Any]]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return {contract["id"]: contract for contract in listed}


def parts_of_core() -> set[str]:
    """The modules and packages that stand directly in durable_core."""
    files = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    return files | {path.parent.name for path in CORE.glob("*/__init__.py")}


def test_every_contract_is_kept() -> None:
    """In a process of its own: import-linter sets up logging for the whole of its process."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo", "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_core_stands_on_a_floor() -> None:
    floors = " ".join(contracts()["floors"]["layers"])
    named = {word.strip("()").removeprefix("durable_core.") for word in floors.split()}
    assert parts_of_core() <= named, "add it to the contract `floors` in pyproject.toml"


def test_every_floor_below_the_engine_is_declared_pure() -> None:
    sources = contracts()["pure"]["source_modules"]
    pure = {name.split(".")[1] for name in sources}
    assert parts_of_core() - FREE <= pure, "add it to the contract `pure` in pyproject.toml"


def test_the_door_of_a_pure_package_is_pure_too() -> None:
    """The contract names packages by `.**`, which leaves out their `__init__.py`."""
    forbidden = set(contracts()["pure"]["forbidden_modules"])
    for part in parts_of_core() - FREE:
        door = CORE / part / "__init__.py"
        if not door.exists():
            continue
        for node in ast.walk(ast.parse(door.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    reached = {alias.name.split(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    reached = {module.split(".")[0]}
                case _:
                    continue
            assert not reached & forbidden, f"{door.name} of {part} imports {reached & forbidden}"
