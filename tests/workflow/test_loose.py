"""Known classes in values that nobody annotated: labelled, read back, and nothing by guess."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import pytest
from tests.workflow.driver import CODEC, Driver, drive

from durable_core.codec.layers import ZlibLayer
from durable_core.codec.payload import Codec, JsonCodec
from durable_core.errors import EncodingError
from durable_core.kernel.outcome import Completed
from durable_core.kernel.value import Payload
from durable_core.workflow import StepContext, Suspend, Workflow
from durable_core.workflow.known import known_classes
from durable_core.workflow.loose import Loose, LooseCodec, decode, loose_codec

Context = StepContext[Any, Any]
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Line:
    sku: str
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Note:
    text: str
    about: Line | None = None


class Point(NamedTuple):
    x: int
    y: int


@attrs.frozen
class Page(Generic[T]):
    rows: list[T]


class Extra(TypedDict):
    point: Point


@attrs.frozen
class Cart:
    items: list[Line]
    notes: dict[str, Note]
    extra: Extra | None = None


@attrs.frozen
class Stranger:
    name: str


@attrs.frozen
class Refund:
    total: int


CART = Cart([Line("a"), Line("b")], {"n": Note("hi", Line("c"))})
KNOWN = known_classes([Cart, Page[Line]])
LAYERED: Codec = JsonCodec() | ZlibLayer()


# --- which classes are known ----------------------------------------------------------------------


def test_fields_members_and_arguments_are_reached() -> None:
    assert set(KNOWN.values()) == {Cart, Line, Note, Colour, Point, Page[Line]}


def test_wrappers_are_looked_through() -> None:
    named = NewType("named", Note)
    found = known_classes([dict[str, list[named] | None], Literal[Colour.RED], Any, None, int])
    assert set(found.values()) == {Note, Line, Colour}


def test_two_classes_of_one_name_are_both_unknown() -> None:
    other = attrs.make_class("Line", ["sku"])
    assert "Line" not in known_classes([Line, other])
    assert "Line" not in known_classes([other, Cart])


def test_a_class_that_contains_itself_is_reached_once() -> None:
    @attrs.frozen
    class Tree:
        below: list[Any]

    Tree.__annotations__["below"] = list[Tree]
    assert set(known_classes([Tree]).values()) == {Tree}


def test_the_order_of_the_annotations_does_not_matter() -> None:
    one, other = known_classes([Cart, Refund]), known_classes([Refund, Cart])
    assert list(one.items()) == list(other.items())


# --- the rule itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [CODEC, LAYERED], ids=["json", "layered"])
@pytest.mark.parametrize(
    "value",
    [
        Line("a"),
        [Line("a"), 1, "x"],
        {"a": Note("n"), "$as": ["Line", {"sku": "data"}]},
        (Point(1, 2), {"deep": [{"er": Colour.RED}]}),
        {Line("a"), Line("b")},
        frozenset({(1, Line("a"))}),
        Page([Line("a")]),
        {"cart": CART, "plain": (1, b"x")},
        Cart([], {}, {"point": Point(1, 2)}),
    ],
)
def test_what_is_labelled_comes_back_equal_and_of_the_same_types(inner: Codec, value: Any) -> None:
    codec = loose_codec(inner, KNOWN)
    payload = codec.encode(value)
    back = codec.decode(payload)
    assert (back, type(back)) == (value, type(value))
    assert decode(inner, payload, Loose(KNOWN)) == value


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", [1], {"sku": "a", "colour": "red"}, {"$as": ["Line", {"sku": "a"}]}, '{"$as":'],
    ids=repr,
)
def test_plain_values_are_stored_as_ever(value: Any) -> None:
    codec = loose_codec(CODEC, KNOWN)
    assert codec.encode(value) == CODEC.encode(value)
    assert codec.decode(codec.encode(value)) == value


def test_what_is_stored_is_one_label_where_the_object_stands() -> None:
    payload = loose_codec(CODEC, KNOWN).encode({"n": [Line("a")]})
    assert payload.data == b'{"n":[{"$as":["Line",{"sku":"a","colour":"red"}]}]}'
    assert CODEC.decode(payload) == {"n": [{"sku": "a", "colour": "red"}]}


def test_a_label_nobody_knows_is_dropped_as_always() -> None:
    payload = Payload(b'[{"$as":["os.system",{"sku":"a"}]},{"$as":["Line",{"sku":"b"}]}]')
    assert loose_codec(CODEC, KNOWN).decode(payload) == [{"sku": "a"}, Line("b")]


def test_the_order_of_keys_is_kept() -> None:
    codec = loose_codec(CODEC, KNOWN)
    value = {"z": Line("a"), "a": 1, "m": 2}
    assert list(codec.decode(codec.encode(value))) == ["z", "a", "m"]


def test_an_unknown_class_is_refused_as_without_known_ones() -> None:
    with pytest.raises(EncodingError, match=r"at \$\[1\]: Stranger .* annotate the handler's"):
        loose_codec(CODEC, KNOWN).encode([Line("a"), Stranger("x")])


def test_a_refusal_inside_of_a_known_object_says_where() -> None:
    wrong: Any = 7
    with pytest.raises(EncodingError, match=r"the item at \$\[0\]\.a cannot .* at \$\.sku: "):
        loose_codec(CODEC, KNOWN).encode([{"a": Line(wrong)}], what="the item")


def test_a_known_object_that_does_not_fit_any_more_is_not_read() -> None:
    with pytest.raises(EncodingError, match=r"the field is missing"):
        loose_codec(CODEC, KNOWN).decode(Payload(b'{"$as":["Line",{}]}'))


def test_cycles_and_shared_values_are_no_trouble() -> None:
    codec = loose_codec(CODEC, KNOWN)
    cycle: list[Any] = [Line("a")]
    cycle.append(cycle)
    with pytest.raises(EncodingError):
        codec.encode(cycle)
    shared: Any = Line("a")
    for _ in range(40):
        shared = (shared, shared)
    with pytest.raises(Exception, match="too large"):
        codec.encode(shared, limit=1000)


def test_without_known_classes_the_codec_is_left_alone() -> None:
    assert loose_codec(CODEC, {}) is CODEC
    assert isinstance(loose_codec(CODEC, KNOWN), LooseCodec)


# --- workflows -----------------------------------------------------------------------------------


async def pick_item(ctx: Context):  # type: ignore[no-untyped-def]
    assert type(ctx.item) is Line
    return ctx.item


def both_ways(workflow: Workflow[Any, Any], input: Any = CART, **more: Any) -> Driver:
    """Drive it, and again from what was recorded, with the same end."""
    run = drive(workflow, input, **more)
    again = run.replay()
    assert run.failed is None, run.failed
    assert again.calls == []
    assert again.result == run.result
    return run


def test_the_example_of_the_documentation_works() -> None:
    workflow = Workflow("checkout", input=Cart).map("pick", lambda c: c.input.items, pick_item)
    run = both_ways(workflow)
    assert run.result == {"pick": CART.items}


def test_an_unannotated_handler_gives_known_objects_and_later_steps_see_them() -> None:
    def mixed(ctx: Context):  # type: ignore[no-untyped-def]
        return {"line": ctx.input.items[0], "n": 1}

    def look(ctx: Context):  # type: ignore[no-untyped-def]
        assert ctx.results["a"] == {"line": Line("a"), "n": 1}
        return type(ctx.results["a"]["line"]).__name__

    run = both_ways(Workflow("w", input=Cart).step("a", mixed).step("b", look))
    assert run.result == {"a": {"line": Line("a"), "n": 1}, "b": "Line"}


def test_every_kind_of_value_without_an_annotation() -> None:
    def give(ctx: Context, value: Any):  # type: ignore[no-untyped-def]
        assert type(value) is Line
        return value

    def undo(ctx: Context) -> None:
        assert type(ctx.value) is Line

    def one(ctx: Context):  # type: ignore[no-untyped-def]
        return ctx.input.items[0]

    workflow = (
        Workflow("w", input=Cart)
        .loop("l", give, initial=lambda c: c.input.items[0], feedback=lambda r: r, max_iterations=2)
        .loop("m", give, initial=Line("z"), max_iterations=2, collect=True)
        .parallel("p", {"x": one, "y": one})
        .route("r", lambda c: "k", {"k": one})
        .step("s", one, compensate=undo)
        .returns(lambda c: [c.results["l"], *c.results["m"], c.results["x"], c.results["r"]])
    )
    run = both_ways(workflow)
    assert run.result == [Line("a"), Line("z"), Line("z"), Line("a"), Line("a")]
    run.undo("s")


def test_children_are_given_and_give_known_objects() -> None:
    child = Workflow("child").step("s", typed_line).returns(lambda c: c.results["s"])
    parent = Workflow("w", input=Cart).child("c", child, input=lambda c: c.input.items[0])
    given = drive(parent, CART, children={"c": loose_codec(CODEC, KNOWN).encode(Line("a"))})
    begin = given.step("c").begin()
    assert begin.input.data.startswith(b'{"$as":["Line"')
    assert given.result == {"c": Line("a")}
    inside = drive(child)
    inside.run = attrs.evolve(inside.run, input=begin.input)
    assert both_ways(child, None).result == Line("s")


def typed_line(ctx: Context) -> Line:
    return Line("s")


def test_a_child_is_given_only_what_it_knows_itself() -> None:
    parent = Workflow("w", input=Cart).child("c", Workflow("child"), input=lambda c: c.input)
    failure = drive(parent, CART).failure
    assert failure.type == "EncodingError"
    assert "the input of child workflow 'child'" in failure.message


def test_results_of_children_are_known_to_their_parent() -> None:
    child = Workflow("child").step("s", typed_line)
    assert "Line" in Workflow("w").child("c", child).known_classes


@pytest.mark.parametrize("annotated", [False, True])
def test_snapshots_and_resume_data_may_hold_known_objects(annotated: bool) -> None:
    def untold(ctx: Context):  # type: ignore[no-untyped-def]
        return Suspend([ctx.input.items[0]])

    async def told(ctx: Context) -> int | Suspend:
        return Suspend([ctx.input.items[0]])

    handler: Callable[..., Any] = told if annotated else untold
    run = drive(Workflow("w", input=Cart).step("a", handler), CART)
    attempt = run.attempt("a")
    value = call(run.prepare(attempt))
    assert isinstance(value, Suspend)
    snapshot = run.codec.encode(value.snapshot)
    again = run.prepare(
        run.attempt("a", snapshot=snapshot, data=loose_codec(CODEC, KNOWN).encode(Note("yes")))
    )
    resumption = again.context.resumption
    assert resumption is not None
    assert (resumption.snapshot, resumption.data) == ([Line("a")], Note("yes"))


def call(invocation: Any) -> Any:
    value = invocation.function(*invocation.args)
    if not invocation.is_async:
        return value
    try:
        value.send(None)
    except StopIteration as end:
        return end.value


def test_a_plain_function_that_gives_an_awaitable_is_labelled_too() -> None:
    async def later() -> Any:
        return CART.items

    codec = loose_codec(CODEC, KNOWN)
    assert isinstance(codec, LooseCodec)
    function = codec.wrapped(
        later, is_async=False, typed=False, limit=1000, what="the result of 'a'"
    )
    with pytest.raises(StopIteration) as end:
        function().send(None)
    assert CODEC.decode(CODEC.encode(end.value.value), list[Line]) == CART.items


def test_an_unknown_class_fails_its_unit_with_the_mend() -> None:
    def strange(ctx: Context):  # type: ignore[no-untyped-def]
        return [Stranger("x"), ctx.input.items[0]]

    failure = drive(Workflow("w", input=Cart).step("a", strange), CART).failure
    assert failure.type == "EncodingError"
    assert "Stranger is not a type that can be stored without an annotation" in failure.message


def test_a_class_that_is_known_by_two_meanings_is_refused() -> None:
    other = attrs.make_class("Line", ["sku"])
    workflow = Workflow("w", input=Cart).wait_for_signal("s", type=other)
    failure = drive(
        workflow.step("a", lambda c: c.input.items), CART, signals={"s": {"sku": 1}}
    ).failure
    assert "Line is not a type that can be stored without an annotation" in failure.message


def test_stored_values_are_plain_json_with_labels() -> None:
    run = drive(Workflow("w", input=Cart).step("a", lambda c: c.input.items[0]), CART)
    (done,) = run.recorded.values()
    assert isinstance(done, Completed)
    assert done.payload.data == b'{"$as":["Line",{"sku":"a","colour":"red"}]}'


def test_byte_layers_hide_labels_from_nobody() -> None:
    workflow = Workflow("checkout", input=Cart).map("pick", lambda c: c.input.items, pick_item)
    assert both_ways(workflow, codec=LAYERED).result == {"pick": CART.items}
