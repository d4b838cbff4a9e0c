"""The closing check: the shop's ledger held against the orders and the journals.

Pure: facts in, findings out. ``check`` knows nothing of how the runs were driven; it takes what
the ledger says, what each order should have come to, and what each journal has committed, and
lists every disagreement. An empty list is the point of the whole library.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import attrs

from .orders import Order, expected_end
from .shop import Call, Movement, Stock

UNDOES: Mapping[str, str] = {
    "struck out": "registered",
    "unscreened": "screened",
    "put back": "picked",
    "refunded": "charged",
    "called back": "booked",
    "credited": "invoiced",
}
"""Each kind of movement that takes back another."""

ONCE = ("registered", "screened", "charged", "booked", "invoiced")
"""What a fulfilled order has exactly one of."""

CLOCK_SLACK_MS = 250
"""How far apart two moments must be, by two clocks, before one is surely the later."""

PROBLEMS_SHOWN = 20

UnitId = tuple[str, str, bool]
"""Run, unit path, and whether its compensation is meant."""


@attrs.frozen(slots=True)
class Committed:
    """A unit's completion (or its compensation's), as its journal has it."""

    run_id: str
    unit: str
    undo: bool
    at_ms: int


@attrs.frozen(slots=True)
class Death:
    """A worker that was killed; ``at_ms`` since the epoch."""

    pid: int
    at_ms: int


@attrs.frozen(slots=True, kw_only=True)
class Facts:
    """Everything the check looks at. ``ends`` is the status of each order's run."""

    orders: Sequence[Order]
    ends: Mapping[str, str]
    movements: Sequence[Movement]
    calls: Sequence[Call]
    stock: Sequence[Stock]
    committed: Sequence[Committed]
    deaths: Sequence[Death] = ()
    runs: int = 0
    seconds: float = 0.0


@attrs.frozen(slots=True, kw_only=True)
class Report:
    """What came out; ``takeovers``: seconds from a kill to each attempt made up for."""

    problems: tuple[str, ...]
    orders: int
    completed: int
    undone: int
    charged: int
    refunded: int
    units: int
    compensations: int
    calls: int
    takeovers: tuple[float, ...]
    deaths: int
    runs: int
    seconds: float

    @property
    def balanced(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def check(facts: Facts) -> Report:
    """Hold the ledger against orders and journals."""
    by_order: dict[str, list[Movement]] = defaultdict(list)
    for movement in facts.movements:
        by_order[movement.order_id].append(movement)
    problems: list[str] = []
    for order in facts.orders:
        status = facts.ends.get(order.id, "missing")
        problems += _end(order, status)
        problems += _books(order, status, by_order.get(order.id, []))
    known = {order.id for order in facts.orders}
    problems += [
        f"{order_id}: is no order of ours" for order_id in by_order if order_id not in known
    ]
    problems += _shelves(facts)
    problems += _invoices(facts.movements)
    problems += _repeats(facts)
    money = Counter[str]()
    for movement in facts.movements:
        money[movement.kind] += movement.amount
    return Report(
        problems=tuple(problems),
        orders=len(facts.orders),
        completed=sum(status == "completed" for status in facts.ends.values()),
        undone=sum(status == "failed" for status in facts.ends.values()),
        charged=money["charged"],
        refunded=money["refunded"],
        units=sum(not one.undo for one in facts.committed),
        compensations=sum(one.undo for one in facts.committed),
        calls=len(facts.calls),
        takeovers=tuple(_takeovers(facts)),
        deaths=len(facts.deaths),
        runs=facts.runs,
        seconds=facts.seconds,
    )


def _end(order: Order, status: str) -> Iterable[str]:
    wanted = expected_end(order)
    if status != wanted:
        yield f"{order.id}: the run is {status}, and should be {wanted}"


def _books(order: Order, status: str, movements: Sequence[Movement]) -> Iterable[str]:
    """Exactly once for a fulfilled order; everything taken back for any other."""
    counts = Counter(movement.kind for movement in movements)
    sums = Counter[tuple[str, str]]()
    for movement in movements:
        kind = UNDOES.get(movement.kind, movement.kind)
        sign = -1 if movement.kind in UNDOES else 1
        sums[kind, movement.subject] += sign * movement.amount
        if movement.kind in ("charged", "refunded") and movement.amount != order.total:
            yield f"{order.id}: {movement.kind} {movement.amount}, but its total is {order.total}"
    if counts["charged"] > 1:
        yield f"{order.id}: charged {counts['charged']} times"
    for undo, done in UNDOES.items():
        if counts[undo] > counts[done]:
            yield f"{order.id}: {undo} {counts[undo]} times, but {done} {counts[done]} times"
    if status == "completed":
        for kind in ONCE:
            if counts[kind] != 1:
                yield f"{order.id}: completed, but {kind} {counts[kind]} times"
        for undo in UNDOES:
            if counts[undo]:
                yield f"{order.id}: completed, but {undo} {counts[undo]} times"
    else:
        for (kind, subject), rest in sorted(sums.items()):
            if rest:
                yield f"{order.id}: {status}, but {rest} of {subject!r} is still {kind}"
        for undo, done in UNDOES.items():
            if counts[undo] < counts[done]:
                yield f"{order.id}: {status}, but {done} {counts[done]} and {undo} {counts[undo]}"


def _shelves(facts: Facts) -> Iterable[str]:
    """Pieces delivered = pieces on the shelf + pieces in fulfilled orders."""
    sold = Counter[str]()
    for order in facts.orders:
        if facts.ends.get(order.id) == "completed":
            for item in order.items:
                sold[item.sku] += item.quantity
    for article in facts.stock:
        if article.initial != article.shelf + sold[article.sku]:
            yield (
                f"stock of {article.sku}: {article.initial} delivered, but {article.shelf} on the "
                f"shelf and {sold[article.sku]} sold"
            )


def _invoices(movements: Sequence[Movement]) -> Iterable[str]:
    """A number is given once; what was invoiced for good is what was charged for good."""
    numbers = Counter(movement.subject for movement in movements if movement.kind == "invoiced")
    yield from (f"invoice {number}: {n} times" for number, n in numbers.items() if n > 1)
    money = Counter[str]()
    for movement in movements:
        money[movement.kind] += movement.amount
    charged = money["charged"] - money["refunded"]
    invoiced = money["invoiced"] - money["credited"]
    if charged != invoiced:
        yield f"{charged} cents were charged for good, but {invoiced} invoiced"


def _repeats(facts: Facts) -> Iterable[str]:
    """Each unit is committed once, no handler of it begins after that, and no dead one commits."""
    done: dict[UnitId, int] = {}
    for one in facts.committed:
        key = (one.run_id, one.unit, one.undo)
        if key in done:
            yield f"run {one.run_id}: {_unit(one.unit, one.undo)} was committed twice"
        done[key] = one.at_ms
    begun: dict[UnitId, list[Call]] = defaultdict(list)
    for call in facts.calls:
        begun[call.run_id, call.unit, call.undo].append(call)
    ahead = _ahead_ms(done, begun)
    deaths = {death.pid: death.at_ms for death in facts.deaths}
    for key, calls in begun.items():
        run_id, unit, undo = key
        if key not in done:
            if facts.ends.get(calls[0].order_id) == "completed":
                yield f"run {run_id}: {_unit(unit, undo)} began, but was never committed"
            continue
        at_ms, last = done[key] - ahead, calls[-1]
        late = last.at_ms - at_ms
        if len(calls) > 1 and late > CLOCK_SLACK_MS:  # one call alone repeats nothing
            yield (
                f"run {run_id}: {_unit(unit, undo)} began again {late} ms after its completion "
                f"was committed"
            )
        dead_ms = at_ms - deaths.get(last.pid, at_ms)
        if dead_ms > CLOCK_SLACK_MS:
            yield (
                f"run {run_id}: {_unit(unit, undo)} was committed {dead_ms} ms after the worker "
                f"of its last attempt was killed"
            )


def _ahead_ms(done: Mapping[UnitId, int], begun: Mapping[UnitId, Sequence[Call]]) -> int:
    """How far the store's clock is ahead of the ledger's: the quickest unit took no time."""
    return min((at - begun[key][0].at_ms for key, at in done.items() if key in begun), default=0)


def _takeovers(facts: Facts) -> list[float]:
    """Seconds from a kill to the new beginning of each attempt it cut off, shortest first.

    Such an attempt begins again under its old number; after a failure that was committed, the
    next one has the next number, and nothing was cut off.
    """
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in facts.calls:
        by_key[call.key].append(call)
    deaths = {death.pid: death.at_ms for death in facts.deaths}
    return sorted(
        (following.at_ms - deaths[call.pid]) / 1000
        for calls in by_key.values()
        for call, following in pairwise(calls)
        if call.pid in deaths and call.pid != following.pid and call.attempt == following.attempt
    )


def _unit(unit: str, undo: bool) -> str:
    return f"the compensation of {unit}" if undo else f"unit {unit}"


def table(report: Report) -> list[tuple[str, str]]:
    """The closing figures, as labels and texts."""
    kept = euros(report.charged - report.refunded)
    rows = [
        ("orders", f"{report.orders:,}"),
        ("  charged once", f"{report.completed:,}, {kept}"),
        ("  undone in full", f"{report.undone:,}, {euros(report.refunded)} charged and refunded"),
        ("units executed", f"{report.units:,}; compensations: {report.compensations:,}"),
        ("kills survived", f"{report.deaths:,}"),
    ]
    if report.takeovers:
        first, last = report.takeovers[0], report.takeovers[-1]
        rows.append(("attempts cut off", f"{len(report.takeovers):,}, all made up for"))
        rows.append(
            ("takeover", f"{first:.1f} s after a kill at the earliest, {last:.1f} s at most")
        )
    if report.seconds:
        rate = report.runs / report.seconds
        rows.append(("runs", f"{report.runs:,} in {report.seconds:.1f} s, {rate:.1f} a second"))
    return rows


def euros(cents: int) -> str:
    """An amount of money in words a person reads."""
    return f"€{cents / 100:,.2f}"
