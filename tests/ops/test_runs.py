"""``durable runs export``: a run with its journal, as JSON that ``replay`` reads."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.postgres_kit import MAJORS, own_database

from durable_core import Engine, Workflow
from durable_core.engine.client.exporting import RunExport
from durable_core.engine.observer import RunSuspended
from durable_core.testing import replay
from durable_core.testing.postgres import NO_POSTGRES
from durable_ops.cli import main

Ctx = Any
Said = pytest.CaptureFixture[str]


async def reserve(ctx: Ctx) -> str:
    return f"hold {ctx.input['item']}"


checkout = Workflow("checkout").step("reserve", reserve).wait_for_signal("paid")
changed = Workflow("checkout").step("hold", reserve).wait_for_signal("paid")


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLE_DB", raising=False)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgres",
            marks=[
                pytest.mark.postgres,
                pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
            ],
        ),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database in which run ``order-1`` waits for its signal."""
    if request.param == "sqlite":
        where = f"sqlite:///{tmp_path / 'a.db'}"
        asyncio.run(_begun(where))
        yield where
        return
    with own_database(MAJORS[0]) as where:
        asyncio.run(_begun(where))
        yield where


class Listens:
    """An observer that waits until a run waits."""

    def __init__(self) -> None:
        self.suspended = asyncio.Event()

    def on_event(self, event: object) -> None:
        """Something happened."""
        if isinstance(event, RunSuspended):
            self.suspended.set()


async def _begun(url: str) -> None:
    listens = Listens()
    async with (
        Engine(url, [checkout], migrate=True, observers=[listens]) as engine,
        engine.worker(),
        asyncio.timeout(30),
    ):
        await engine.start(checkout, {"item": "lamp"}, id="order-1")
        await listens.suspended.wait()


def durable(capsys: Said, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    try:
        status = main(["runs", *words])
    except SystemExit as left:
        status = int(left.code or 0)
    return status, *capsys.readouterr()


def test_what_is_exported_can_be_replayed(url: str, capsys: Said) -> None:
    status, out, err = durable(capsys, "export", "order-1", "--db", url)
    assert (status, err) == (0, "")
    run = RunExport.from_json(out)
    assert (run.run_id, run.workflow, run.status) == ("order-1", "checkout", "suspended")
    assert str(replay(checkout, run)) == "run 'order-1' fits, in paid"
    assert not replay(changed, run).fits
    assert durable(capsys, "export", "order-1", "--db", url)[1] == out, "nothing was changed"


def test_a_file_is_for_its_owner_and_none_is_overwritten(
    url: str, tmp_path: Path, capsys: Said
) -> None:
    path = tmp_path / "run.json"
    words = ("export", "order-1", "--db", url, "--out", str(path))
    assert durable(capsys, *words) == (0, "", "")
    assert RunExport.from_json(path.read_text()).run_id == "order-1"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status, out, err = durable(capsys, *words)
    assert (status, out) == (1, "") and "exists" in err


def test_no_such_run_is_status_1(url: str, capsys: Said) -> None:
    status, out, err = durable(capsys, "export", "order-2", "--db", url)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("durable runs export: ") and "order-2" in err


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, capsys: Said) -> None:
    status, _, err = durable(capsys, "export", "r", "--db", f"sqlite:///{tmp_path / 'b.db'}")
    assert status == 1 and "There is no database" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [(), ("export",), ("export", "r"), ("export", "r", "--db", "mysql://h/d"), ("explode", "r")],
)
def test_a_wrong_command_line_is_status_2(words: tuple[str, ...], capsys: Said) -> None:
    status, out, err = durable(capsys, *words)
    assert (status, out) == (2, "")
    assert "--help" in err
