"""Clean: ordinary workflows without a mistake, on which the kit must say nothing.

Many do what looks like a mistake and is none: a handler draws a random number, edits its own copy
and returns it, reads a table of constants, begins tasks and awaits them, counts its calls.

``python -m tests.kit.clean [seeds]`` explores each under so many seeds (20) and prints the table.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import logging
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs

from durable_core import Retry, Suspend, Workflow
from durable_core.testing.explore import Report, explore
from durable_core.testing.findings import findings
from durable_core.testing.simulate import Signal
from durable_core.testing.simulation import Simulation
from durable_core.workflow.nodes import SKIP, Branch, Undo

Ctx = Any
Flow = Workflow[Any, Any]
PATIENT = Retry(max_attempts=3, initial=1.0, jitter=0.0)
LIMITS = {"small": 10, "large": 100}
log = logging.getLogger(__name__)
calls: Counter[str] = Counter()


@attrs.frozen(kw_only=True)
class Clean:
    """A workflow, and how it is explored."""

    name: str
    workflow: Flow
    input: Any = None
    how: Mapping[str, Any] = attrs.field(factory=dict)
    heavy: bool = False
    """It takes seconds: left to ``make torture``."""

    def alarm(self, seed: int = 0) -> str:
        """What the kit has against it; empty, if it is right."""
        errors = [str(one) for one in findings(self.workflow) if one.severity == "error"]
        report = self.explored(seed)
        found = report.counterexample
        return "\n".join(errors if found is None else [*errors, str(found)])

    @property
    def light(self) -> bool:
        """Whether it is soon explored."""
        return len(self.workflow.nodes) == 1 and not self.heavy

    def explored(self, seed: int) -> Report:
        """Under every single fault."""
        return explore(self.workflow, self.input, seed=seed, **self.how)


class Shop:
    """The world outside; it knows the keys it has seen."""

    def __init__(self) -> None:
        self.paid: set[str] = set()
        self.holds: dict[str, int] = {}
        self.seen: set[str] = set()

    def new(self, key: str) -> bool:
        """Whether this key comes for the first time."""
        known = key in self.seen
        self.seen.add(key)
        return not known


def flow() -> Flow:
    return Workflow("flow")


async def one(ctx: Ctx) -> int:
    return 1


async def add(ctx: Ctx, value: Any) -> int:
    return int(value) + 1


# --- handlers ------------------------------------------------------------------------------------


async def pay(ctx: Ctx) -> str:
    ctx.deps.paid.add(ctx.idempotency_key)
    return "paid"


def sync_and_slow(ctx: Ctx) -> str:
    time.sleep(2)
    return "slept"


async def token(ctx: Ctx) -> str:
    return f"{uuid.uuid4()}-{random.randrange(1_000)}"


async def stamp(ctx: Ctx) -> float:
    return time.time()


async def moment(ctx: Ctx) -> datetime:
    return datetime.now(UTC)


async def own_copy(ctx: Ctx) -> Any:
    order = ctx.input
    order["total"] = 9
    return order


async def sorted_copy(ctx: Ctx) -> Any:
    return {"first": sorted(ctx.input["items"])[0]}


async def gathers(ctx: Ctx) -> list[int]:
    return list(await asyncio.gather(_later(1), _later(2), one(ctx)))


async def _later(value: int) -> int:
    await asyncio.sleep(value)
    return value


async def uses_group(ctx: Ctx) -> int:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_later(1)) for _ in range(2)]
    return sum(task.result() for task in tasks)


async def counts_calls(ctx: Ctx) -> str:
    calls["counted"] += 1
    log.debug("called")
    return "counted"


async def passes_at_second(ctx: Ctx) -> str:
    if ctx.attempt < 2:
        raise ConnectionError("try again")
    return "passed"


async def refuses(ctx: Ctx) -> None:
    raise ValueError("never")


@functools.lru_cache(maxsize=8)
def rate(currency: str) -> int:
    return {"EUR": 2}.get(currency, 1)


async def cached(ctx: Ctx) -> int:
    return rate("EUR") * LIMITS["small"]


async def with_prefix(prefix: str, ctx: Ctx) -> str:
    return prefix + str(ctx.unit)


class Multiplier:
    """A callable object, and one with a method as a handler."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def __call__(self, ctx: Ctx) -> int:
        return self.factor

    async def twice(self, ctx: Ctx) -> int:
        return self.factor * 2


def handlers() -> list[Clean]:
    """What handlers may do."""
    shop = {"deps": Shop, "snapshot": vars, "check": paid_at_most_once}
    return [
        Clean(name="an effect under its key", workflow=flow().step("pay", pay), how=shop),
        Clean(
            name="an effect under its key, with a timeout and retries",
            workflow=flow().step("pay", pay, retry=PATIENT, timeout=20),
            how={"deps": Shop, "check": paid_at_most_once},
        ),
        Clean(name="a plain handler that sleeps", workflow=flow().step("nap", sync_and_slow)),
        Clean(
            name="random numbers that nothing depends on",
            workflow=flow().step("token", token).step("next", one),
        ),
        Clean(name="a time stamp", workflow=flow().step("at", stamp).step("when", moment)),
        Clean(
            name="its own copy, changed and returned",
            workflow=flow().step("order", own_copy),
            input={"total": 0},
        ),
        Clean(
            name="a sorted copy",
            workflow=flow().step("first", sorted_copy),
            input={"items": [3, 1, 2]},
        ),
        Clean(
            name="tasks that are awaited",
            workflow=flow().step("gather", gathers).step("group", uses_group),
        ),
        Clean(name="calls are counted and logged", workflow=flow().step("count", counts_calls)),
        Clean(
            name="the second attempt passes",
            workflow=flow().step("try", passes_at_second, retry=PATIENT),
        ),
        Clean(name="it fails, and is meant to", workflow=flow().step("no", refuses)),
        Clean(name="a cache and a table of constants", workflow=flow().step("rate", cached)),
        Clean(
            name="a partial, an object and a method",
            workflow=flow()
            .step("partial", functools.partial(with_prefix, "at "))
            .step("object", Multiplier(2))
            .step("method", Multiplier(3).twice),
        ),
    ]


def paid_at_most_once(sim: Simulation) -> None:
    assert len(sim.deps.paid) <= 1


# --- values --------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    tags: tuple[str, ...] = ()
    at: datetime | None = None


@attrs.define(eq=False)
class Parcel:
    """Without an equality of its own."""

    lines: list[Line]
    colour: Colour


async def lines(ctx: Ctx) -> list[Line]:
    return [Line("a", Decimal("1.50"), ("x", "y"), datetime(2026, 1, 1, tzinfo=UTC))]


async def parcel(ctx: Ctx) -> Parcel:
    return Parcel(ctx.result(lines), Colour.RED)


async def loose(ctx: Ctx) -> Any:
    return {"pair": (1, 2), "set": {1, 2}, "bytes": b"x", "none": None, "deep": [{"a": [1.5]}]}


async def as_float(ctx: Ctx) -> float:
    return 1


async def counter(ctx: Ctx) -> dict[str, int]:
    return dict(Counter("abba"))


async def weigh(ctx: Ctx, line: Line) -> float:
    return float(line.price) * 2


def values() -> list[Clean]:
    """What comes back as it was."""
    return [
        Clean(
            name="dataclasses, attrs, enums, decimals, dates",
            workflow=flow().step("lines", lines).step("parcel", parcel),
        ),
        Clean(name="tuples, sets and bytes", workflow=flow().step("loose", loose)),
        Clean(
            name="an int for a float, a counter for a dict",
            workflow=flow().step("float", as_float).step("counter", counter),
        ),
        Clean(
            name="a map over typed items",
            workflow=flow().step("lines", lines).map("weigh", lambda c: c.result(lines), weigh),
        ),
    ]


# --- kinds ---------------------------------------------------------------------------------------


async def ask(ctx: Ctx) -> Any:
    if ctx.resumption is None:
        return Suspend({"question": "may I?"})
    return ctx.resumption.data


async def asks_twice(ctx: Ctx) -> Any:
    said = [] if ctx.resumption is None else [*ctx.resumption.snapshot, ctx.resumption.data]
    return said if len(said) == 2 else Suspend(said)


async def flaky_entry(ctx: Ctx) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("try again")
    return "done"


def size(c: Ctx) -> str:
    return "large" if c.input > LIMITS["small"] else "small"


async def dict_item(ctx: Ctx, item: Any) -> int:
    return int(item["n"])


def kinds() -> list[Clean]:
    """Each kind of step."""
    small = Workflow("small").step("one", one).returns(lambda c: c.results["one"])
    return [
        Clean(
            name="parallel",
            workflow=flow().parallel(
                "both", {"a": one, "b": Branch(flaky_entry, retry=PATIENT)}, max_concurrency=1
            ),
        ),
        Clean(
            name="map over the input",
            workflow=flow().map("each", lambda c: c.input, dict_item),
            input=[{"n": 1}, {"n": 2}],
        ),
        Clean(
            name="map where some may fail",
            workflow=flow().map("each", lambda c: [1, "x"], add, min_success=1),
            heavy=True,
        ),
        Clean(
            name="route by a table of constants",
            workflow=flow().route("size", size, {"large": one, "small": one}),
            input=11,
        ),
        Clean(
            name="route that skips",
            workflow=flow().route("way", lambda c: "other", {"a": one}, otherwise=SKIP),
        ),
        Clean(
            name="loop with feedback",
            workflow=flow().loop(
                "poll", add, initial=0, until=lambda r, n: r >= 3, feedback=lambda r: r
            ),
        ),
        Clean(
            name="loop that collects",
            workflow=flow().loop("thrice", add, initial=1, max_iterations=3, collect=True),
        ),
        Clean(
            name="sleep for a time, and until a day of the input",
            workflow=flow()
            .sleep("nap", timedelta(hours=3))
            .sleep("until", lambda c: datetime.fromisoformat(c.input)),
            input="2031-01-01T00:00:00+00:00",
            heavy=True,
        ),
        Clean(
            name="child",
            workflow=flow().child("small", small).returns(lambda c: c.results["small"] + 1),
        ),
        Clean(name="agent that suspends", workflow=flow().step("ask", ask), how={"resume": "yes"}),
        Clean(
            name="agent that suspends twice",
            workflow=flow().step("ask", asks_twice),
            how={"resume": "yes"},
        ),
    ]


# --- signals -------------------------------------------------------------------------------------


def signals() -> list[Clean]:
    """Early, late, typed, none at all."""
    waits = flow().wait_for_signal("ok", timeout=timedelta(days=1))
    either = flow().wait_for_signal("ok", timeout=60, on_timeout="continue").step("then", one)
    two = flow().wait_for_signal("a", timeout=3_600).wait_for_signal("b", timeout=3_600)
    return [
        Clean(name="signal that comes early", workflow=waits, how={"signals": {"ok": True}}),
        Clean(
            name="signal that comes late",
            workflow=flow().step("first", one).wait_for_signal("ok", timeout=60),
            how={"signals": [Signal("ok", 1, early=False)]},
        ),
        Clean(name="signal that never comes, and may", workflow=either),
        Clean(name="two signals", workflow=two, how={"signals": {"b": 2, "a": 1}}),
        Clean(
            name="typed signal",
            workflow=flow().wait_for_signal("ok", type=int, timeout=60),
            how={"signals": {"ok": 3}},
        ),
    ]


# --- undoing -------------------------------------------------------------------------------------


async def hold(ctx: Ctx) -> str:
    ctx.deps.holds[ctx.unit] = 1
    return str(ctx.unit)


async def release(ctx: Ctx) -> None:
    ctx.deps.holds.pop(ctx.value, None)


async def clears(ctx: Ctx) -> None:
    log.info("%s is undone", ctx.unit)
    ctx.deps.holds.pop(ctx.unit, None)


def nothing_held(sim: Simulation) -> None:
    undone = {entry.unit for entry in sim.journal if entry.kind == "unit_compensated"}
    done = {entry.unit for entry in sim.journal if entry.kind == "unit_completed"}
    if sim.status == "failed":
        assert not set(sim.deps.holds) & undone & done


def undoing() -> list[Clean]:
    """Rollbacks that give everything back."""
    how = {"deps": Shop, "check": nothing_held}
    once = Undo(release, retry=Retry(max_attempts=1))
    below = Workflow("below").step("hold", hold, compensate=once)
    return [
        Clean(
            name="saga that completes",
            workflow=flow().step("hold", hold, compensate=release).step("last", one),
            how=how,
        ),
        Clean(
            name="saga that is rolled back",
            heavy=True,
            workflow=flow()
            .step("hold", hold, compensate=Undo(clears, timeout=30, retry=Retry(max_attempts=2)))
            .step("no", refuses),
            how=how,
        ),
        Clean(
            name="map with a compensator, rolled back",
            heavy=True,
            workflow=flow()
            .map("hold", lambda c: [1, 2], hold, compensate=once)
            .step("no", refuses),
            how=how,
        ),
        Clean(
            name="child that is rolled back",
            heavy=True,
            workflow=flow().child("below", below).step("no", refuses),
            how=how,
        ),
    ]


KINDS: tuple[Callable[[], list[Clean]], ...] = (
    handlers,
    values,
    kinds,
    signals,
    undoing,
)


def clean() -> list[Clean]:
    """All of them."""
    return [case for kind in KINDS for case in kind()]


def main() -> None:
    """Print the table; an alarm is an error."""
    alarmed = 0
    logging.disable(logging.CRITICAL)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"{'clean':<55} {'alarms':>6} {'seconds':>8}")
    for case in clean():
        began = time.process_time()
        alarms = [alarm for seed in range(seeds) if (alarm := case.alarm(seed))]
        print(f"{case.name:<55} {len(alarms):>6} {time.process_time() - began:>8.2f}", flush=True)
        alarmed += bool(alarms)
        for alarm in alarms[:1]:
            print(alarm)
    sys.exit(f"{alarmed} false alarms" if alarmed else 0)


if __name__ == "__main__":
    main()
