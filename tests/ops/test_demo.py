"""The demo survives its own kills, and its closing check finds what it is there to find."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.postgres_kit import MAJORS, own_database

from durable_core import Engine, Failure, JournalEntry
from durable_core.kernel.ids import UnitKey
from durable_core.testing.postgres import NO_POSTGRES
from durable_ops.cli import main
from durable_ops.demo.command import show_report
from durable_ops.demo.drive import Plan, pieces_for
from durable_ops.demo.orders import REVIEW_ABOVE, WIRE_ABOVE, Order, expected_end, load_orders
from durable_ops.demo.report import Committed, Death, Facts, check
from durable_ops.demo.shop import Call, Ledger
from durable_ops.demo.terminal import Terminal
from durable_ops.demo.timeline import Begun, draw, rows_of
from durable_ops.demo.workflow import WORKFLOWS, workflow_for

START = datetime(2024, 6, 11, 8, tzinfo=UTC)
ZERO_MS = int(START.timestamp() * 1000)


# --- end to end ----------------------------------------------------------------------------------


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A demo of few orders in a process of its own, with its files in this folder."""
    environment = {
        **os.environ,
        "TMPDIR": str(folder),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "error",
    }
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "import sys; from durable_ops.cli import main; "
         "sys.exit(main(['demo', '--orders', '12', '--kills', '1', *sys.argv[1:]]))", *options],
        capture_output=True, text=True, encoding="utf-8", timeout=100, check=False,
        env=environment,
    )  # fmt: skip


def survived(done: subprocess.CompletedProcess[str]) -> None:
    """Its worker was killed, its ledger balances, and its output is fit for a file."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the ledger balances" in done.stdout
    assert "killed (SIGKILL)" in done.stdout
    assert "\x1b" not in done.stdout, "no escapes where nobody looks"
    assert done.stderr == ""


@pytest.mark.slow
def test_a_small_demo_survives_a_kill_and_balances(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    survived(done)
    assert "12 orders in one SQLite file" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo cleans up"


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES)
def test_a_small_demo_on_postgres_survives_a_kill_and_balances(tmp_path: Path) -> None:
    with own_database(MAJORS[0]) as dsn:
        done = run_demo(tmp_path, "--db", dsn)
    survived(done)
    assert "12 orders on Postgres" in done.stdout
    assert "SQLite" not in done.stdout
    assert f"stay in {dsn}\n" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo cleans up"


@pytest.mark.slow
def test_a_demo_that_was_interrupted_does_not_disturb_the_next(tmp_path: Path) -> None:
    """Its orders would be charged in the next one's ledger."""
    url = f"sqlite:///{tmp_path / 'demo.db'}"
    order = load_orders(1)[0]

    async def left_over(*, start: bool) -> str:
        async with Engine(url, WORKFLOWS) as engine:
            if start:
                await engine.start(workflow_for(order), order, id="A", queue="demo-before")
            return (await engine.get("A")).status

    asyncio.run(left_over(start=True))
    survived(run_demo(tmp_path, "--db", url))
    assert asyncio.run(left_over(start=False)) == "pending"


def test_a_demo_on_a_server_that_is_down_says_so(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--db", "postgresql://ada:secret@127.0.0.1:1/shop")
    assert done.returncode == 2
    assert "'shop' on 127.0.0.1:1 cannot be reached: nobody listens there" in done.stdout
    assert "\n\n\n" not in done.stdout
    assert "secret" not in done.stdout + done.stderr


# --- orders --------------------------------------------------------------------------------------


def test_the_shipped_orders_hold_every_case() -> None:
    orders = load_orders()
    assert len(orders) >= 200
    assert len({order.id for order in orders}) == len(orders)
    ends = [expected_end(order) for order in orders]
    assert 20 < ends.count("failed") < ends.count("completed")
    assert any(order.total > WIRE_ABOVE for order in orders)
    dear = [order for order in orders if order.total > REVIEW_ABOVE]
    assert all(order.review is not None for order in dear)
    reviews = [order.review for order in dear if order.review is not None]
    assert {review.approved for review in reviews} == {True, False}
    assert {review.early for review in reviews} == {True, False}
    assert {order.delivery for order in orders} == {"accepted", "refused", "lost"}
    assert {len(order.items) for order in orders} == {1, 2, 3, 4, 5}
    assert any(order.gift_note and not order.gift_note.isascii() for order in orders)


def test_more_orders_than_shipped_begin_again_under_new_ids() -> None:
    orders = load_orders(500)
    assert len({order.id for order in orders}) == 500


# --- the closing check ---------------------------------------------------------------------------


@pytest.fixture
def fulfilled() -> Order:
    return next(order for order in load_orders() if expected_end(order) == "completed")


@pytest.fixture
def refused() -> Order:
    return next(order for order in load_orders() if order.delivery == "refused")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def do(ledger: Ledger, order: Order, *, key: str = "") -> None:
    """What the handlers do for an order that goes through."""
    move = ledger.move
    for kind, amount in (("registered", 1), ("screened", len(order.signs_of_fraud))):
        move(kind, order.id, f"{order.id} {kind}{key}", order.id, amount)
    for index, item in enumerate(order.items):
        move("picked", order.id, f"{order.id} pick/{index}{key}", item.sku, item.quantity)
    move("charged", order.id, f"{order.id} pay{key}", "customer", order.total)
    move("invoiced", order.id, f"{order.id} invoice{key}", f"R-{order.id}", order.total)
    move("booked", order.id, f"{order.id} book{key}", f"P-{order.id}", 1)


def undo(ledger: Ledger, order: Order, *, leave_out: str = "") -> None:
    """Take back everything, but one kind of movement."""
    for movement in ledger.movements():
        taken_back = {
            "registered": "struck out",
            "screened": "unscreened",
            "picked": "put back",
            "charged": "refunded",
            "invoiced": "credited",
            "booked": "called back",
        }[movement.kind]
        if movement.order_id == order.id and taken_back != leave_out:
            ledger.move(
                taken_back, order.id, f"{movement.key}:undo", movement.subject, movement.amount
            )


def facts(ledger: Ledger, *ends: tuple[Order, str]) -> Facts:
    return Facts(
        orders=[order for order, _ in ends],
        ends={order.id: status for order, status in ends},
        movements=ledger.movements(),
        calls=ledger.calls(),
        stock=ledger.stock(),
        committed=(),
    )


@pytest.fixture
def done_facts(ledger: Ledger, fulfilled: Order, refused: Order) -> Facts:
    """One order gone through, one undone."""
    ledger.deliver(pieces_for([fulfilled, refused]))
    do(ledger, fulfilled)
    do(ledger, refused)
    undo(ledger, refused)
    return facts(ledger, (fulfilled, "completed"), (refused, "failed"))


def test_a_ledger_in_order_balances(done_facts: Facts) -> None:
    report = check(done_facts)
    assert report.problems == ()
    assert (report.completed, report.undone) == (1, 1)


def test_a_key_moves_once_however_often_it_is_used(ledger: Ledger, fulfilled: Order) -> None:
    ledger.deliver(pieces_for([fulfilled]))
    do(ledger, fulfilled)
    do(ledger, fulfilled)
    assert check(facts(ledger, (fulfilled, "completed"))).balanced


def test_a_planted_double_charge_is_found(
    ledger: Ledger, done_facts: Facts, fulfilled: Order
) -> None:
    ledger.move("charged", fulfilled.id, "another key", "customer", fulfilled.total)
    planted = attrs.evolve(done_facts, movements=ledger.movements())
    problems = check(planted).problems
    assert f"{fulfilled.id}: charged 2 times" in problems
    terminal = StringIO()
    plan = Plan(url="", ledger=Path(), log=Path(), orders=planted.orders, kills=0, seed=0)
    assert show_report(Terminal(terminal, width=100), plan, planted) == 1
    assert f"{fulfilled.id}: charged 2 times" in terminal.getvalue()


def test_a_charge_of_a_failed_order_that_is_not_refunded_is_found(
    ledger: Ledger, refused: Order
) -> None:
    ledger.deliver(pieces_for([refused]))
    do(ledger, refused)
    undo(ledger, refused, leave_out="refunded")
    problems = check(facts(ledger, (refused, "failed"))).problems
    assert f"{refused.id}: failed, but {refused.total} of 'customer' is still charged" in problems


def test_pieces_that_are_not_put_back_are_missed(ledger: Ledger, refused: Order) -> None:
    ledger.deliver(pieces_for([refused]))
    do(ledger, refused)
    undo(ledger, refused, leave_out="put back")
    problems = check(facts(ledger, (refused, "failed"))).problems
    assert any(problem.startswith("stock of ") for problem in problems)


@pytest.mark.parametrize("kind", ["registered", "screened", "charged", "booked", "invoiced"])
def test_a_fulfilled_order_lacks_nothing(
    ledger: Ledger, done_facts: Facts, fulfilled: Order, kind: str
) -> None:
    kept = [m for m in done_facts.movements if m.order_id != fulfilled.id or m.kind != kind]
    problems = check(attrs.evolve(done_facts, movements=kept)).problems
    assert f"{fulfilled.id}: completed, but {kind} 0 times" in problems


def test_a_wrong_end_is_found(done_facts: Facts, refused: Order) -> None:
    ends = {**done_facts.ends, refused.id: "compensation_failed"}
    problems = check(attrs.evolve(done_facts, ends=ends)).problems
    assert f"{refused.id}: the run is compensation_failed, and should be failed" in problems


def call(at_ms: int, *, unit: str = "pay/card", pid: int = 1, attempt: int = 1) -> Call:
    return Call("A1", "A1", unit, f"A1:0:{unit}", False, attempt, pid, at_ms)


def test_a_unit_that_begins_after_its_commit_is_found(done_facts: Facts) -> None:
    quick = call(800, unit="price")
    committed = [
        Committed("A1", "price", False, 800),
        Committed("A1", "pay/card", False, 1000),
    ]
    fine = [quick, call(900), call(950, pid=2)]
    late = [quick, call(900), call(3000, pid=2)]
    assert check(attrs.evolve(done_facts, calls=fine, committed=committed)).balanced
    (problem,) = check(attrs.evolve(done_facts, calls=late, committed=committed)).problems
    assert problem == (
        "run A1: unit pay/card began again 2000 ms after its completion was committed"
    )


def test_a_store_whose_clock_is_ahead_hides_no_late_beginning(done_facts: Facts) -> None:
    hour = 3_600_000
    calls = [call(800, unit="price"), call(900), call(3000, pid=2)]
    committed = [
        Committed("A1", "price", False, hour + 800),
        Committed("A1", "pay/card", False, hour + 1000),
    ]
    (problem,) = check(attrs.evolve(done_facts, calls=calls, committed=committed)).problems
    assert "began again 2000 ms after" in problem


def test_a_completion_by_a_dead_worker_is_found(done_facts: Facts) -> None:
    calls = [call(800, unit="price"), call(900)]
    committed = [Committed("A1", "price", False, 800), Committed("A1", "pay/card", False, 3000)]
    dead = attrs.evolve(done_facts, calls=calls, committed=committed, deaths=[Death(1, 1000)])
    assert check(dead).problems == (
        "run A1: unit pay/card was committed 2000 ms after the worker of its last attempt was "
        "killed",
    )


def test_a_takeover_is_measured_from_the_kill_to_each_attempt_made_up_for(
    done_facts: Facts,
) -> None:
    calls = [call(900), call(950, unit="book"), call(3500, pid=2), call(3200, unit="book", pid=2)]
    report = check(
        attrs.evolve(
            done_facts,
            calls=calls,
            committed=[Committed("A1", unit, False, 3500) for unit in ("pay/card", "book")],
            deaths=[Death(1, 1000)],
        )
    )
    assert (report.takeovers, report.deaths) == ((2.2, 2.5), 1)


# --- the timeline --------------------------------------------------------------------------------


def entry(seq: int, kind: str, unit: str, at_ms: int, **more: Any) -> JournalEntry:
    key = UnitKey.parse(unit)
    fields = {"value": None, "failure": None, "attempt": None, **more}
    return JournalEntry(
        seq=seq,
        unit=key,
        kind=kind,
        step=key.step,
        at=START + timedelta(milliseconds=at_ms),
        **fields,
    )


REFUSED = Failure(type="TerminalError", message="refused")
JOURNAL = [
    entry(1, "unit_completed", "register", 100, attempt=1),
    entry(2, "attempt_failed", "pay/card", 300, attempt=1, failure=REFUSED),
    entry(3, "unit_completed", "pay/card", 900, attempt=2),
    entry(4, "timer_started", "settle", 900),
    entry(5, "timer_fired", "settle", 1500),
    entry(6, "unit_failed", "hand over", 1600, attempt=1, failure=REFUSED),
    entry(7, "rollback_started", "", 1600),
    entry(8, "unit_compensated", "pay/card", 1800, attempt=1),
    entry(9, "unit_compensated", "register", 2000, attempt=1),
    entry(10, "run_failed", "", 2000, failure=REFUSED),
]


def text(lines: Any) -> list[str]:
    return ["".join(part for part, _ in pieces).rstrip() for pieces in lines]


def test_a_timeline_has_one_row_a_unit() -> None:
    rows = rows_of(JOURNAL)
    assert [row.label for row in rows] == [
        "register", "pay/card", "settle", "hand over", "↶ pay/card", "↶ register",
    ]  # fmt: skip
    assert [[span.mark for span in row.spans] for row in rows] == [
        ["work"], ["failed", "work"], ["wait"], ["failed"], ["undo"], ["undo"],
    ]  # fmt: skip


def test_a_timeline_is_drawn_over_relative_time() -> None:
    lines = text(draw("order A1: failed", JOURNAL, width=80))
    assert lines[0] == "order A1: failed"
    assert "0 s" in lines[1] and "1 s" in lines[1]
    assert max(map(len, lines)) <= 80
    bars = dict(zip([row.label for row in rows_of(JOURNAL)], lines[2:], strict=False))
    assert "·" in bars["settle"] and "█" not in bars["settle"]
    assert "▒" in bars["pay/card"] and "attempt 2" in bars["pay/card"]
    assert "▓" in bars["↶ register"]
    assert bars["hand over"].endswith("refused")


def test_an_attempt_that_died_with_its_worker_shows() -> None:
    begun = [
        Begun("register", False, ZERO_MS),
        Begun("pay/card", False, ZERO_MS + 120),
        Begun("pay/card", False, ZERO_MS + 500),
        Begun("pay/card", False, ZERO_MS + 800),
    ]
    rows = rows_of(JOURNAL, begun, [ZERO_MS + 600])
    pay = next(row for row in rows if row.label == "pay/card")
    assert [(s.mark, s.start_ms - ZERO_MS, s.end_ms - ZERO_MS) for s in pay.spans] == [
        ("failed", 120, 300),
        ("wait", 300, 500),
        ("lost", 500, 600),
        ("wait", 600, 800),
        ("work", 800, 900),
    ]
    lines = text(draw("A1", JOURNAL, begun=begun, deaths_ms=[ZERO_MS + 600]))
    assert "✗" in lines[2] and "worker killed" in lines[2]


def test_a_beginning_by_a_clock_slightly_ahead_still_counts() -> None:
    begun = [Begun("register", False, ZERO_MS), Begun("register", False, ZERO_MS + 102)]
    rows = rows_of(JOURNAL, begun, [ZERO_MS + 10])
    assert [span.mark for span in rows[0].spans] == ["lost", "wait", "work"]


def test_an_empty_journal_is_no_picture() -> None:
    assert text(draw("A1", [])) == ["A1", "nothing has happened yet"]


# --- the command ---------------------------------------------------------------------------------


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demonstrate"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "demonstrate" in said and "demo" in said and "--help" in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("durable-core ")


@pytest.mark.parametrize("wrong", [["--orders", "0"], ["--kills", "-1"], ["--orders", "many"]])
def test_a_wrong_number_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demo", *wrong])
    assert left.value.code == 2
    assert "whole number" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["memory://", "sqlite://"])
def test_a_database_in_memory_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--db", url]) == 2
    assert "sqlite:///demo.db" in capsys.readouterr().out


def test_output_without_block_characters_is_ascii(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with path.open("w", encoding="ascii") as stream:
        Terminal(stream).line("█░▓▒· ✓ ↶ pay, 3 € ✓é")
    assert path.read_text(encoding="ascii") == "#-<!. + < pay, 3 EUR  +?\n"
