"""The demo as a command: where its files lie, what it prints, and its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from durable_core import DurableError, Engine, JournalEntry

from ..databases import without_password
from .drive import Drive, Plan, Stalled
from .orders import Order, load_orders
from .process import WorkerDied
from .progress import Progress, plural
from .report import PROBLEMS_SHOWN, Facts, check, table
from .shop import Ledger
from .terminal import Terminal
from .timeline import Begun, draw, rows_of
from .workflow import WORKFLOWS

BALANCED, UNBALANCED, BROKEN, INTERRUPTED = 0, 1, 2, 130
ENDS_IN_WORDS = {"completed": "fulfilled", "failed": "failed, and undone in full"}
IN_MEMORY = ("memory://", "sqlite://", "sqlite:///:memory:")


@attrs.frozen(slots=True, kw_only=True)
class Options:
    """What the command was asked for. ``orders`` None: all that are shipped."""

    db: str | None = None
    orders: int | None = None
    kills: int = 3
    seed: int = 0
    keep: bool = False


def run_demo(options: Options, terminal: Terminal | None = None) -> int:
    """Run the demo; 0 when the ledger balances, 1 when not, 2 when it broke, 130 on Ctrl-C."""
    terminal = terminal if terminal is not None else Terminal()
    if options.db is not None and options.db in IN_MEMORY:
        terminal.line(
            f"durable demo: {options.db} lives in one process, but the demo's worker is another; "
            f"give a file or a server, e.g. --db sqlite:///demo.db"
        )
        return BROKEN
    with folder(options.keep) as place, terminated_like_ctrl_c():
        try:
            return asyncio.run(_demo(options, place, terminal))
        except KeyboardInterrupt:
            terminal.gap()
            terminal.line("  stopped; the worker is gone too")
            return INTERRUPTED
        except (DurableError, Stalled, WorkerDied) as error:
            terminal.gap()
            terminal.line(f"durable demo: {error}")
            return BROKEN
        finally:
            if options.keep:
                terminal.line(f"  kept in {place}")


@contextlib.contextmanager
def folder(keep: bool) -> Iterator[Path]:
    """A new folder for the demo's files, removed at the end unless it is kept."""
    if keep:
        yield Path(tempfile.mkdtemp(prefix="durable-demo-"))
        return
    with tempfile.TemporaryDirectory(prefix="durable-demo-") as place:
        yield Path(place)


@contextlib.contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """A polite SIGTERM, too, leaves nothing behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _demo(options: Options, place: Path, terminal: Terminal) -> int:
    orders = load_orders(options.orders)
    url = options.db or f"sqlite:///{(place / 'demo.db').as_posix()}"
    plan = Plan(
        url=url,
        ledger=place / "ledger.db",
        log=place / "worker.log",
        orders=orders,
        kills=options.kills,
        seed=options.seed,
        tag=secrets.token_hex(3) if options.db else "",
    )
    engine = Engine(url, WORKFLOWS, migrate=True)  # which says so if the URL is none
    where = "in one SQLite file" if url.startswith("sqlite") else "on Postgres"
    terminal.line()
    terminal.line(
        "  "
        + terminal.paint("durable demo", "bold")
        + f"   {plural(len(orders), 'order')} {where}, one worker"
        + (f", to be killed {plural(options.kills, 'time')}" if options.kills else "")
    )
    terminal.line()
    ledger = Ledger(plan.ledger)
    try:
        async with engine:
            drive = Drive(plan, engine, ledger, Progress(terminal))
            await drive.run()
            facts, journals = await drive.facts()
    finally:
        ledger.close()
    terminal.line()
    show_timeline(terminal, plan, facts, journals)
    status = show_report(terminal, plan, facts)
    if options.db is not None:
        stay = f"its {plural(facts.runs, 'run')} stay in {without_password(options.db)}"
        terminal.line(f"  {terminal.paint(stay, 'dim')}")
        terminal.line()
    return status


def show_timeline(
    terminal: Terminal, plan: Plan, facts: Facts, journals: Mapping[str, Sequence[JournalEntry]]
) -> None:
    """Print the timeline of the run that has most to tell."""
    deaths_ms = [death.at_ms for death in facts.deaths]
    begun: dict[str, list[Begun]] = defaultdict(list)
    for call in facts.calls:
        begun[call.run_id].append(Begun(call.unit, call.undo, call.at_ms))

    def interest(order: Order) -> tuple[int, int]:
        """The more different things happened, and the later its worker died, the better."""
        run_id = plan.run_id(order)
        rows = rows_of(journals[run_id], begun[run_id], deaths_ms)
        marks = [[span.mark for span in row.spans] for row in rows]
        lost = [place for place, row in enumerate(marks) if "lost" in row]
        return len({mark for row in marks for mark in row}), max(lost, default=-1)

    order = max(plan.orders, key=interest)
    end = facts.ends[order.id]
    lines = draw(
        f"Order {order.id}: {ENDS_IN_WORDS.get(end, end)}",
        journals[plan.run_id(order)],
        begun=begun[plan.run_id(order)],
        deaths_ms=deaths_ms,
        width=terminal.width - 2,
    )
    for pieces in lines:
        text = "".join(terminal.paint(part, hue) if hue else part for part, hue in pieces)
        terminal.line("  " + text.rstrip())
    terminal.line()


def show_report(terminal: Terminal, plan: Plan, facts: Facts) -> int:
    """Print the closing check; the exit status."""
    report = check(facts)
    rows = table(report)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        terminal.line(f"  {terminal.paint(label.ljust(width), 'dim')}   {text}")
    terminal.line()
    problems = list(report.problems)
    if report.deaths < plan.kills:
        problems.append(
            f"the worker was to be killed {plural(plan.kills, 'time')}, but all orders were "
            f"finished after {report.deaths}; try more orders"
        )
    if not problems:
        terminal.line(
            "  " + terminal.paint("✓ the ledger balances", "green") + ": every order was charged "
            "exactly once or undone in full"
        )
        terminal.line()
        return BALANCED
    terminal.line("  " + terminal.paint(f"✗ {plural(len(problems), 'finding')}", "red"))
    for problem in problems[:PROBLEMS_SHOWN]:
        terminal.line(f"    {problem}")
    if len(problems) > PROBLEMS_SHOWN:
        terminal.line(f"    and {len(problems) - PROBLEMS_SHOWN} more")
    terminal.line()
    return UNBALANCED
