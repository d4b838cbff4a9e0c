"""What is installed: light imports, no driver needed by the core, a complete wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("durable_core", "durable_sqlite", "durable_pg", "durable_ops", "durable_pytest"),
    "durable_pydantic_ai",
)

WITHOUT_EXTRAS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {
            "aiosqlite", "asyncpg", "hypothesis", "pytest", "cyclopts", "rich", "starlette",
            "jinja2", "uvicorn", "opentelemetry", "pydantic", "pydantic_ai",
        }:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Refuse())
import durable_core
"""

WITHOUT_NETWORK = """
import sys

def refuse(event, args):
    if event.startswith("socket.") or event in {"subprocess.Popen", "os.fork", "sqlite3.connect"}:
        raise RuntimeError(f"import did {event}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise RuntimeError(f"import writes {args[0]}")

sys.dont_write_bytecode = True
sys.addaudithook(refuse)
import durable_core, threading
assert threading.active_count() == 1, threading.enumerate()
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of all files in a wheel built from this tree, without touching the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    built = next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    with zipfile.ZipFile(built) as wheel:
        return wheel.namelist()


@pytest.mark.parametrize("code", [WITHOUT_EXTRAS, WITHOUT_NETWORK], ids=["extras", "network"])
def test_importing_the_core_is_light_and_quiet(code: str) -> None:
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_wheel_holds_every_source_file(wheel_names: list[str]) -> None:
    src = ROOT / "src"
    expected = {
        path.relative_to(src).as_posix()
        for package in PACKAGES
        for path in (src / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert expected <= set(wheel_names)


def test_the_wheel_holds_nothing_else(wheel_names: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str, wheel_names: list[str]) -> None:
    assert f"{package}/py.typed" in wheel_names
