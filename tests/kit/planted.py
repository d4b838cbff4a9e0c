"""Planted: workflows with one mistake each, and what of the kit has to find it.

``python -m tests.kit.planted`` prints the table: name, found by, seconds, what is said.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from durable_core import DurableError, Retry, Workflow
from durable_core.testing.explore import explore
from durable_core.testing.findings import findings
from durable_core.testing.simulate import simulate
from durable_core.testing.simulation import Simulation

Ctx = Any
Flow = Workflow[Any, Any]
MINUTE = timedelta(minutes=1)
PATIENT = Retry(max_attempts=3, initial=1.0, jitter=0.0)


@attrs.frozen(kw_only=True)
class Planted:
    """A workflow with a mistake. ``by``: what finds it; ``says``: words its message has to hold;
    ``unit``: the unit it has to name. ``how``: what the user gives besides the workflow."""

    name: str
    by: str
    workflow: Flow
    unit: str
    says: str
    input: Any = None
    how: Mapping[str, Any] = attrs.field(factory=dict)

    def found(self) -> str:
        """What is said about it; empty if nothing is."""
        match self.by:
            case "findings":
                return "\n".join(map(str, findings(self.workflow)))
            case "simulate":
                return self._simulated()
            case _:
                report = explore(self.workflow, self.input, **self.how)
                return "" if report.counterexample is None else str(report.counterexample)

    def _simulated(self) -> str:
        try:
            sim = simulate(self.workflow, self.input, **self.how)
        except DurableError as error:
            return str(error)
        return "\n".join(f"{one.unit}: {one.sentence}" for one in sim.complaints)


class Shop:
    """The world outside."""

    def __init__(self) -> None:
        self.paid: list[str] = []
        self.holds: dict[str, int] = {}
        self.stock = 10
        self.undone: list[str] = []


async def one(ctx: Ctx) -> int:
    return 1


async def more(ctx: Ctx, value: Any) -> int:
    return int(value) + 1


def flow(name: str = "flow") -> Flow:
    return Workflow(name)


# --- effects -------------------------------------------------------------------------------------


async def pay_without_key(ctx: Ctx) -> str:
    ctx.deps.paid.append(str(uuid.uuid4()))
    return "paid"


async def take_from_stock(ctx: Ctx) -> str:
    ctx.deps.stock -= 1
    return "taken"


async def pay_by_attempt(ctx: Ctx) -> str:
    key = f"{ctx.run_id}-{ctx.attempt}"
    if key not in ctx.deps.paid:
        ctx.deps.paid.append(key)
    return "paid"


async def charge_then_fail(ctx: Ctx) -> str:
    ctx.deps.paid.append(ctx.run_id)
    if ctx.attempt == 1:
        raise ConnectionError("try again")
    return "paid"


def paid_once(sim: Simulation) -> None:
    assert len(sim.deps.paid) <= 1, f"paid {len(sim.deps.paid)} times"


def effects() -> list[Planted]:
    """An effect is done again: after a crash, or in the next attempt."""
    shop = {"deps": Shop, "check": paid_once}
    return [
        Planted(
            name="effect without idempotency key",
            by="explore, check",
            workflow=flow().step("pay", pay_without_key),
            unit="pay",
            says="paid 2 times",
            how=shop,
        ),
        Planted(
            name="effect that is not idempotent, no check",
            by="explore, snapshot",
            workflow=flow().step("take", take_from_stock),
            unit="take",
            says="left in another state",
            how={"deps": Shop, "snapshot": vars},
        ),
        Planted(
            name="a key of its own that holds the attempt",
            by="explore, check",
            workflow=flow().step("pay", pay_by_attempt, retry=PATIENT),
            unit="pay",
            says="paid 2 times",
            how=shop,
        ),
        Planted(
            name="effect before a failure that is retried",
            by="explore, check",
            workflow=flow().step("pay", charge_then_fail, retry=PATIENT),
            unit="pay",
            says="paid 2 times",
            how=shop,
        ),
        Planted(
            name="timeout in the middle of a retried effect",
            by="explore, check",
            workflow=flow().step("pay", pay_slowly, retry=PATIENT, timeout=10),
            unit="pay",
            says="paid 2 times",
            how=shop,
        ),
    ]


async def pay_slowly(ctx: Ctx) -> str:
    ctx.deps.paid.append(ctx.run_id)
    await asyncio.sleep(8)
    return "paid"


# --- branches ------------------------------------------------------------------------------------


def by_chance(c: Ctx) -> str:
    return "left" if random.random() < 0.5 else "right"


def in_helper(c: Ctx) -> str:
    return "left" if _is_late() else "right"


def _is_late() -> bool:
    return time.time() % 86_400 > 43_200


async def tossed(ctx: Ctx) -> bool:
    return bool(random.getrandbits(1))


async def weekday(ctx: Ctx) -> bool:
    return int(time.time() // 3_600) % 2 == 0


TWO = {"left": one, "right": one}
ROUNDS = [0]


async def counted(ctx: Ctx, value: Any) -> int:
    ROUNDS[0] += 1
    return 1


def closed_over() -> Flow:
    done = False

    async def work(ctx: Ctx, value: Any) -> int:
        nonlocal done
        done = True
        return 1

    return flow().loop("spin", work, initial=0, until=lambda result: done, max_iterations=9)


def branches() -> list[Planted]:
    """What shapes a run reads something that is not in it."""
    return [
        Planted(
            name="random branch",
            by="findings",
            workflow=flow().route("way", by_chance, TWO),
            unit="way",
            says="select reads a random number, random.random",
        ),
        Planted(
            name="random branch, by itself",
            by="explore",
            workflow=flow().route("way", by_chance, TWO),
            unit="way",
            says="random",
        ),
        Planted(
            name="wall-clock branch in a helper",
            by="explore",
            workflow=flow().route("way", in_helper, TWO),
            unit="way",
            says="time.time (in _is_late)",
        ),
        Planted(
            name="wall clock in until",
            by="findings",
            workflow=flow().loop(
                "poll", more, initial=0, until=lambda r: datetime.now(UTC).hour > 8
            ),
            unit="poll",
            says="until reads the clock, datetime.now",
        ),
        Planted(
            name="items that are never the same",
            by="findings",
            workflow=flow().map("each", lambda c: [str(uuid.uuid4()) for _ in range(2)], more),
            unit="each",
            says="items reads a random number, uuid.uuid4",
        ),
        Planted(
            name="a coin tossed in a handler, and a branch on it",
            by="explore",
            workflow=flow()
            .step("toss", tossed)
            .route("way", lambda c: "left" if c.results["toss"] else "right", TWO),
            unit="way",
            says="depends on the schedule",
        ),
        Planted(
            name="the hour read in a handler, and a branch on it",
            by="explore",
            workflow=flow()
            .step("hour", weekday)
            .route("way", lambda c: "left" if c.results["hour"] else "right", TWO),
            unit="way",
            says="begun at another date",
        ),
        Planted(
            name="until reads a global that handlers change",
            by="findings",
            workflow=flow().loop(
                "spin", counted, initial=0, until=lambda r: ROUNDS[0] >= 3, max_iterations=9
            ),
            unit="spin",
            says="until reads ROUNDS",
        ),
        Planted(
            name="until reads a closed-over variable",
            by="explore",
            workflow=closed_over(),
            unit="spin",
            says="until reads done",
        ),
    ]


# --- memory --------------------------------------------------------------------------------------

HELD: dict[str, str] = {}
CACHE: dict[str, int] = {}


async def hold(ctx: Ctx) -> str:
    HELD[ctx.run_id] = "hold-7"
    ctx.deps.holds["hold-7"] = 1
    return "held"


async def release_from_memory(ctx: Ctx) -> None:
    ctx.deps.holds.pop(HELD.get(ctx.run_id, ""), None)


async def fail(ctx: Ctx) -> None:
    raise ValueError("no")


async def fill_cache(ctx: Ctx) -> str:
    CACHE["rate"] = 7
    return "filled"


async def read_cache(ctx: Ctx) -> int:
    return CACHE.get("rate", 0)


class Desk:
    """Handlers as methods, which remember by the way."""

    def __init__(self) -> None:
        seen: list[str] = []

        async def note(ctx: Ctx) -> str:
            seen.append(ctx.unit)
            return "noted"

        async def count(ctx: Ctx) -> int:
            return len(seen)

        self.note, self.count = note, count


def memory() -> list[Planted]:
    """A process is believed to remember."""
    desk = Desk()
    return [
        Planted(
            name="compensator that relies on memory",
            by="findings",
            workflow=flow().step("hold", hold, compensate=release_from_memory).step("no", fail),
            unit="hold",
            says="its compensator reads HELD",
        ),
        Planted(
            name="a step reads what another left in a global",
            by="explore",
            workflow=flow().step("fill", fill_cache).step("rate", read_cache),
            unit="rate",
            says="(CACHE): only results and deps last",
        ),
        Planted(
            name="a step counts in a closed-over list",
            by="explore",
            workflow=flow().step("note", desk.note).step("count", desk.count),
            unit="count",
            says="(seen): only results and deps last",
        ),
    ]


# --- values --------------------------------------------------------------------------------------


async def adds_to_input(ctx: Ctx) -> str:
    ctx.input["items"].append("gift")
    return "added"


async def adds_to_results(ctx: Ctx) -> str:
    ctx.results["cart"]["total"] = 9
    return "totalled"


async def cart(ctx: Ctx) -> dict[str, int]:
    return {"total": 0}


async def changes_item(ctx: Ctx, item: Any) -> str:
    item["done"] = True
    return "done"


@dataclasses.dataclass
class Order:
    """The tax is put on again whenever one is made, from the store too."""

    total: int

    def __post_init__(self) -> None:
        self.total += 20


async def orders(ctx: Ctx) -> Order:
    return Order(100)


async def gives_tuple(ctx: Ctx) -> list[int]:
    return (1, 2)  # type: ignore[return-value]


async def int_keys(ctx: Ctx) -> Any:
    return {1: "one"}


class Plain:
    """Of a class that nobody announced."""


async def gives_object(ctx: Ctx) -> Any:
    return Plain()


async def gives_handle(ctx: Ctx) -> Any:
    return {"lock": asyncio.Lock()}


def values() -> list[Planted]:
    """What is handed on is not what comes back."""
    return [
        Planted(
            name="the input is changed in place",
            by="explore",
            workflow=flow().step("gift", adds_to_input),
            input={"items": ["lamp"]},
            unit="gift",
            says="its handler changed ctx.input",
        ),
        Planted(
            name="a result is changed in place",
            by="simulate",
            workflow=flow().step("cart", cart).step("total", adds_to_results),
            unit="total",
            says="its handler changed ctx.results['cart']",
        ),
        Planted(
            name="an item is changed in place",
            by="explore",
            workflow=flow().map("mark", lambda c: [{"id": 1}, {"id": 2}], changes_item),
            unit="mark/0",
            says="its handler changed the value it was called with",
        ),
        Planted(
            name="a result that comes back as another one",
            by="explore",
            workflow=flow().step("order", orders),
            unit="order",
            says="its handler gives Order(total=120), which comes back as Order(total=140)",
        ),
        Planted(
            name="a tuple where a list is announced",
            by="explore",
            workflow=flow().step("pair", gives_tuple),
            unit="pair",
            says="the value is of type tuple",
        ),
        Planted(
            name="keys that are no text",
            by="explore",
            workflow=flow().step("keys", int_keys),
            unit="keys",
            says="without an annotation keys must be str",
        ),
        Planted(
            name="an object of an unannounced class",
            by="explore",
            workflow=flow().step("thing", gives_object),
            unit="thing",
            says="its handler gives what cannot be stored",
        ),
        Planted(
            name="a lock as a result",
            by="simulate",
            workflow=flow().step("lock", gives_handle),
            unit="lock",
            says="its handler gives what cannot be stored",
        ),
    ]


# --- undoing -------------------------------------------------------------------------------------


async def open_account(ctx: Ctx) -> str:
    ctx.deps.holds["account"] = 0
    return "opened"


async def close_account(ctx: Ctx) -> None:
    ctx.deps.holds.pop("account", None)


async def deposit(ctx: Ctx) -> str:
    ctx.deps.holds["account"] = 5
    return "deposited"


async def withdraw_late(ctx: Ctx) -> None:
    assert "account" not in ctx.deps.holds, "expects that the account is closed by now"


async def book(ctx: Ctx) -> str:
    ctx.deps.holds[ctx.unit] = 1
    return "booked"


async def unbook_wrongly(ctx: Ctx) -> None:
    ctx.deps.holds.pop("book", None)


async def undo_twice_wrongly(ctx: Ctx) -> None:
    ctx.deps.stock += 1


def nothing_held(sim: Simulation) -> None:
    if sim.status == "failed":
        assert not sim.deps.holds, f"{sorted(sim.deps.holds)} are still held"


def stock_is_ten(sim: Simulation) -> None:
    if sim.status == "failed" and sim.committed("undo take"):
        assert sim.deps.stock <= 10, f"{sim.deps.stock} in stock"


async def take_by_key(ctx: Ctx) -> str:
    if ctx.idempotency_key not in ctx.deps.paid:
        ctx.deps.paid.append(ctx.idempotency_key)
        ctx.deps.stock -= 1
    return "taken"


def undoing() -> list[Planted]:
    """A rollback does not give back what was taken."""
    return [
        Planted(
            name="undo order: expects the first step to be undone first",
            by="explore, check",
            workflow=flow()
            .step("open", open_account, compensate=close_account)
            .step("deposit", deposit, compensate=withdraw_late)
            .step("last", one),
            unit="deposit",
            says="not_compensated",
            how={"deps": Shop, "check": all_undone},
        ),
        Planted(
            name="a compensator that undoes another entry's work",
            by="explore, check",
            workflow=flow()
            .map("book", lambda c: ["a", "b"], book, compensate=unbook_wrongly)
            .step("last", one),
            unit="book/1",
            says="are still held",
            how={"deps": Shop, "check": nothing_held},
        ),
        Planted(
            name="a compensator that is not idempotent",
            by="explore, check",
            workflow=flow().step("take", take_by_key, compensate=undo_twice_wrongly).step("z", one),
            unit="undo take",
            says="11 in stock",
            how={"deps": Shop, "check": stock_is_ten},
        ),
    ]


def all_undone(sim: Simulation) -> None:
    failed = [entry for entry in sim.journal if entry.kind == "compensation_failed"]
    assert not failed, f"not_compensated: {failed[0].unit}"


# --- waiting and ending --------------------------------------------------------------------------


async def takes_a_minute(ctx: Ctx) -> str:
    await asyncio.sleep(60)
    return "done"


async def leaves_a_task(ctx: Ctx) -> str:
    task = asyncio.get_running_loop().create_task(_mails())
    return task.get_name()[:4]


async def _mails() -> None:
    await asyncio.sleep(5)


def runs_a_loop(ctx: Ctx) -> str:
    asyncio.run(_mails())
    return "sent"


def never(result: Any) -> bool:
    return False


def waiting() -> list[Planted]:
    """Something never ends, or ends too early."""
    return [
        Planted(
            name="misspelt signal",
            by="simulate",
            workflow=flow().wait_for_signal("approval", "approved", timeout=MINUTE),
            unit="approved",
            says="never waits for a signal 'aproved'",
            how={"signals": {"aproved": True}},
        ),
        Planted(
            name="unbounded loop",
            by="findings",
            workflow=flow().loop("spin", more, initial=0, until=never, max_iterations=40_000),
            unit="spin",
            says="may go on for 40,000 iterations",
        ),
        Planted(
            name="unbounded loop, simulated",
            by="simulate",
            workflow=flow().loop("spin", more, initial=0, until=never, max_iterations=40_000),
            unit="spin",
            says="does the workflow end?",
        ),
        Planted(
            name="a wait for a signal without a timeout",
            by="findings",
            workflow=flow().wait_for_signal("approval"),
            unit="approval",
            says="without a timeout",
        ),
        Planted(
            name="a step without a timeout",
            by="findings",
            workflow=flow().step("call", one),
            unit="call",
            says="it has no timeout",
        ),
        Planted(
            name="timeout shorter than its step",
            by="explore",
            workflow=flow().step("call", takes_a_minute, timeout=30, retry=PATIENT),
            unit="call",
            says="its timeout is shorter than its handler takes",
        ),
        Planted(
            name="a task that outlives its handler",
            by="explore",
            workflow=flow().step("mail", leaves_a_task),
            unit="mail",
            says="a task it began (_mails) goes on",
        ),
        Planted(
            name="a handler that runs a loop of its own",
            by="simulate",
            workflow=flow().step("mail", runs_a_loop),
            unit="mail",
            says="runs an event loop of its own",
        ),
    ]


KINDS: tuple[Callable[[], list[Planted]], ...] = (
    effects,
    branches,
    memory,
    values,
    undoing,
    waiting,
)


def planted() -> list[Planted]:
    """All of them."""
    return [case for kind in KINDS for case in kind()]


def found(case: Planted) -> tuple[str, float]:
    """What is said about it, and how long that took."""
    began = time.process_time()  # the machine may have other things to do
    said = case.found()
    return said, time.process_time() - began


def main() -> None:
    """Print the table; what was not found is an error."""
    missed = 0
    print(f"{'planted':<55} {'found by':<18} {'seconds':>7}")
    for case in planted():
        said, seconds = found(case)
        told = case.says in said and case.unit in said
        missed += not told
        print(f"{case.name:<55} {case.by if told else 'NOT FOUND':<18} {seconds:>7.2f}")
    sys.exit(f"{missed} not found" if missed else 0)


if __name__ == "__main__":
    main()
