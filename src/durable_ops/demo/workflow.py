"""Order fulfilment as a workflow: every kind of step once, and an undo for whatever needs one.

Each handler first notes in the shop's ledger that it began, then does its one deed under its
idempotency key. That is the whole contract: an attempt may die anywhere, and the next one of
the same unit finds the deed done or undone, never half done and never twice.

Dear orders run as ``reviewed-fulfilment``, which is the same workflow with a wait in it:
definitions are values, so the two share their steps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import attrs

from durable_core import Branch, Retry, StepContext, TerminalError, Undo, Workflow

from .orders import SIGNS_MAX, UNSERVED, WIRE_ABOVE, Item, Order
from .shop import Ledger, Outage, Shop

APPROVED = "order.approved"
"""The signal that carries the ``Decision`` about a dear order."""

PATIENT = Retry(max_attempts=6, initial=timedelta(milliseconds=80), on=(Outage,))
"""Other companies are down now and then; nothing else is worth another attempt."""

Ctx = StepContext[Shop, Order]


@attrs.frozen(slots=True)
class Decision:
    """What a colleague said about a dear order."""

    approved: bool
    by: str


@attrs.frozen(slots=True)
class Parcel:
    """A booked parcel, and how many scans its way has."""

    number: str
    scans: int


@attrs.frozen(slots=True)
class Scan:
    """Where the parcel was seen; ``place`` counts from 0."""

    place: int
    delivered: bool


@attrs.frozen(slots=True)
class Bill:
    """The input of the invoicing child; ``total`` is cents."""

    order_id: str
    name: str
    total: int


@attrs.frozen(slots=True)
class Receipt:
    """The result of a fulfilled order; ``total`` is cents."""

    order_id: str
    total: int
    payment: str
    invoice: str
    parcel: str


def begin(ctx: StepContext[Shop, Order] | StepContext[Shop, Bill], *, undo: bool = False) -> str:
    """Note in the ledger that this handler began; gives the idempotency key of its deed."""
    order_id = ctx.input.order_id if isinstance(ctx.input, Bill) else ctx.input.id
    key = ctx.idempotency_key
    ctx.deps.ledger.begin(
        order_id=order_id,
        run_id=ctx.run_id,
        unit=ctx.unit,
        key=key,
        undo=undo,
        attempt=ctx.attempt,
    )
    return key


# --- the order ---------------------------------------------------------------------------------


async def register(ctx: Ctx) -> str:
    """Enter the order into the books."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    ctx.deps.ledger.move("registered", ctx.input.id, key, ctx.input.id, 1)
    return ctx.input.id


async def strike_out(ctx: Ctx) -> None:
    """Undo ``register``."""
    key = begin(ctx, undo=True)
    ctx.deps.ledger.move("struck out", ctx.input.id, key, ctx.value, 1)


def quote(ctx: Ctx) -> int:
    """The total in cents; a plain function, so it runs in a thread."""
    begin(ctx)
    return sum(item.quantity * item.price for item in ctx.input.items)


async def screen(ctx: Ctx) -> int:
    """The number of signs of fraud; too many reject the order for good."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    ctx.deps.weather(key, ctx.attempt, outages=0.05)
    signs = ctx.input.signs_of_fraud
    if len(signs) > SIGNS_MAX:
        raise TerminalError(f"rejected as fraud: {'; '.join(signs)}")
    ctx.deps.ledger.move("screened", ctx.input.id, key, ctx.input.customer.email, len(signs))
    return len(signs)


async def unscreen(ctx: Ctx) -> None:
    """Undo ``screen``: the customer's screening is not kept for an order that is no more."""
    key = begin(ctx, undo=True)
    ctx.deps.ledger.move("unscreened", ctx.input.id, key, ctx.input.customer.email, ctx.value)


async def accept(ctx: Ctx) -> str:
    """Go on only with an order that was approved; gives the name of who did."""
    begin(ctx)
    decision: Decision = ctx.result("approval", Decision)
    if not decision.approved:
        raise TerminalError(f"denied by {decision.by}")
    return decision.by


async def pick(ctx: Ctx, item: Item) -> int:
    """Take the pieces of one line off the shelf."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    ctx.deps.ledger.move("picked", ctx.input.id, key, item.sku, item.quantity)
    return item.quantity


async def put_back(ctx: Ctx) -> None:
    """Undo ``pick``."""
    key = begin(ctx, undo=True)
    sku = ctx.input.items[ctx.index].sku
    await ctx.deps.travel(key)
    ctx.deps.ledger.move("put back", ctx.input.id, key, sku, ctx.value)


def how_to_pay(ctx: Ctx) -> str:
    """Dear orders are paid by wire transfer."""
    return "wire" if ctx.results["price"] > WIRE_ABOVE else "card"


async def by_card(ctx: Ctx) -> str:
    """Charge the card. Sometimes the answer is lost when the charge is made already."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    charge(ctx, key)
    ctx.deps.weather(key, ctx.attempt, outages=0.12)
    return f"card {key}"


async def by_wire(ctx: Ctx) -> str:
    """Take the money by wire transfer, which is slower."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    await ctx.deps.travel(f"{key} again")
    charge(ctx, key)
    return f"wire {key}"


def charge(ctx: Ctx, key: str) -> None:
    """Take the money, once a key."""
    ctx.deps.ledger.move(
        "charged", ctx.input.id, key, ctx.input.customer.email, ctx.results["price"]
    )


async def refund(ctx: Ctx) -> None:
    """Undo either payment; the bank, too, is down now and then."""
    key = begin(ctx, undo=True)
    await ctx.deps.travel(key)
    ctx.deps.weather(key, ctx.attempt, outages=0.3)
    ctx.deps.ledger.move(
        "refunded", ctx.input.id, key, ctx.input.customer.email, ctx.results["price"]
    )


async def book(ctx: Ctx) -> Parcel:
    """Book the carrier."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    if ctx.input.carrier in UNSERVED:
        raise TerminalError(f"{ctx.input.carrier} takes no parcels at present")
    ctx.deps.weather(key, ctx.attempt, outages=0.15)
    number = f"P-{ctx.input.id}"
    ctx.deps.ledger.move("booked", ctx.input.id, key, number, 1)
    return Parcel(number=number, scans=2 + int(3 * ctx.deps.chance(number)))


async def unbook(ctx: Ctx) -> None:
    """Undo ``book``: call the parcel back."""
    key = begin(ctx, undo=True)
    await ctx.deps.travel(key)
    ctx.deps.ledger.move("called back", ctx.input.id, key, f"P-{ctx.input.id}", 1)


async def scan(ctx: Ctx, place: int) -> Scan:
    """Ask the carrier where the parcel is; a lost one is never delivered."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    parcel = ctx.result(book)
    arrived = place + 1 >= parcel.scans and ctx.input.delivery != "lost"
    return Scan(place=place, delivered=arrived)


async def hand_over(ctx: Ctx) -> str:
    """Close the order, if the customer takes the parcel."""
    begin(ctx)
    if ctx.input.delivery == "refused":
        raise TerminalError("the customer refused the parcel")
    return ctx.input.customer.name


def receipt(ctx: Ctx) -> Receipt:
    """The result of the run."""
    return Receipt(
        order_id=ctx.input.id,
        total=ctx.results["price"],
        payment=ctx.results["pay"],
        invoice=ctx.results["invoice"]["number"],
        parcel=ctx.result(book).number,
    )


# --- the invoice -------------------------------------------------------------------------------


async def number(ctx: StepContext[Shop, Bill]) -> str:
    """The invoice's number."""
    begin(ctx)
    return f"R-{ctx.input.order_id}"


async def issue(ctx: StepContext[Shop, Bill]) -> str:
    """Write the invoice."""
    key = begin(ctx)
    await ctx.deps.travel(key)
    ctx.deps.ledger.move(
        "invoiced", ctx.input.order_id, key, ctx.results["number"], ctx.input.total
    )
    return ctx.input.name


async def credit(ctx: StepContext[Shop, Bill]) -> None:
    """Undo ``issue`` by a credit note."""
    key = begin(ctx, undo=True)
    await ctx.deps.travel(key)
    ctx.deps.ledger.move(
        "credited", ctx.input.order_id, key, ctx.results["number"], ctx.input.total
    )


invoicing = (
    Workflow("invoicing", input=Bill).step("number", number).step("issue", issue, compensate=credit)
)


def bill(ctx: Ctx) -> Bill:
    """What the invoicing child is started with."""
    return Bill(
        order_id=ctx.input.id,
        name=ctx.input.customer.company or ctx.input.customer.name,
        total=ctx.results["price"],
    )


# --- the workflows -----------------------------------------------------------------------------


def first_steps(name: str) -> Workflow[Order, dict[str, object]]:
    """What happens to every order before anybody may have to approve it."""
    return (
        Workflow(name, input=Order, version="1")
        .step("register", register, compensate=strike_out)
        .parallel(
            "check", {"price": quote, "fraud": Branch(screen, compensate=unscreen, retry=PATIENT)}
        )
    )


def last_steps(workflow: Workflow[Order, dict[str, object]]) -> Workflow[Order, Receipt]:
    """What happens to every order that may go on."""
    return (
        workflow.map("pick", lambda c: c.input.items, pick, max_concurrency=3, compensate=put_back)
        .route(
            "pay",
            how_to_pay,
            {
                "card": Branch(by_card, compensate=Undo(refund, retry=PATIENT), retry=PATIENT),
                "wire": Branch(by_wire, compensate=Undo(refund, retry=PATIENT), retry=PATIENT),
            },
        )
        .child("invoice", invoicing, input=bill)
        .step("book", book, compensate=unbook, retry=PATIENT, timeout=timedelta(seconds=20))
        .loop(
            "track",
            scan,
            initial=0,
            until=lambda seen: seen.delivered,
            feedback=lambda seen: seen.place + 1,
            max_iterations=6,
            on_exhausted="fail",
        )
        .sleep("settle", timedelta(milliseconds=400))
        .step("hand over", hand_over)
        .returns(receipt)
    )


fulfilment = last_steps(first_steps("fulfilment"))

reviewed_fulfilment = last_steps(
    first_steps("reviewed-fulfilment")
    .wait_for_signal("approval", APPROVED, type=Decision, timeout=timedelta(minutes=10))
    .step("accept", accept)
)

WORKFLOWS = (invoicing, fulfilment, reviewed_fulfilment)


def workflow_for(order: Order) -> Workflow[Order, Receipt]:
    """The workflow that fulfils this order."""
    return reviewed_fulfilment if order.needs_review else fulfilment


def shop_at(ledger: Path, *, seed: int) -> Callable[[], AbstractAsyncContextManager[Shop]]:
    """The lifespan of a worker: the shop its handlers find as ``ctx.deps``."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Shop]:
        books = Ledger(ledger)
        try:
            yield Shop(books, seed)
        finally:
            books.close()

    return lifespan
