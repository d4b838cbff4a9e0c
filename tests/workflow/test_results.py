"""Results: references, read lazily and freshly; the shape of a run's result and its view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from tests.workflow.driver import CODEC, drive

from durable_core.codec.payload import JsonCodec
from durable_core.errors import EncodingError
from durable_core.kernel import journal as j
from durable_core.kernel.failure import Failure
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.value import NULL, Payload
from durable_core.workflow import Results, StepContext, Suspend, Workflow, result_of_run, view
from durable_core.workflow.loose import is_untyped
from durable_core.workflow.results import Book, ListValue, MapValue, NoValue, UnitValue

Context = StepContext[Any, Any]


@attrs.frozen
class Quote:
    total: int


class Counting(JsonCodec):
    """A codec that counts its decodings."""

    decoded = 0

    def decode(self, payload: Payload, type_: object = Any, *, what: str = "value") -> Any:
        self.decoded += 1
        return super().decode(payload, type_, what=what)


def unit(path: str, value: Any, type_: Any = Any) -> UnitValue:
    return UnitValue(UnitKey.parse(path), CODEC.encode(value, type_), type_)


@pytest.fixture
def book() -> Book:
    book = Book()
    book.add("a", unit("a", [1]))
    book.add("p", MapValue({"x": unit("p/x", Quote(3), Quote), "y": unit("p/y", 2)}))
    book.add("m", ListValue(UnitKey.of("m"), (CODEC.encode(1), boom)))
    book.add("r", NoValue())
    return book


boom = Failure(type="ValueError", message="boom")


def test_results_are_a_read_only_mapping(book: Book) -> None:
    results = Results(book, 4, CODEC)
    assert dict(results) == {
        "a": [1],
        "p": {"x": Quote(3), "y": 2},
        "m": [1, boom],
        "r": None,
    }
    assert isinstance(results, Mapping)
    assert not hasattr(results, "__setitem__")
    assert (list(results), len(results)) == (["a", "p", "m", "r"], 4)
    assert repr(results) == "<results of a, p, m, r>"


def test_entries_are_found_by_their_own_names_but_not_listed(book: Book) -> None:
    results = Results(book, 2, CODEC)
    assert (results["x"], results["y"], "x" in results) == (Quote(3), 2, True)
    assert list(results) == ["a", "p"]


def test_only_the_steps_before_are_there(book: Book) -> None:
    results = Results(book, 1, CODEC)
    assert ("a" in results, "p" in results, "x" in results) == (True, False, False)
    assert results.get("p") is None
    with pytest.raises(KeyError, match=r"no result of a step 'x' here; results there are: a"):
        results["x"]
    with pytest.raises(KeyError, match=r"results there are: none yet"):
        Results(book, 0, CODEC)["a"]


def test_each_reader_has_its_own_copy(book: Book) -> None:
    one, two = Results(book, 4, CODEC), Results(book, 4, CODEC)
    one["a"].append(2)
    assert (one["a"], two["a"]) == ([1, 2], [1])


def test_nothing_is_decoded_before_it_is_looked_at(book: Book) -> None:
    codec = Counting()
    results = Results(book, 4, codec)
    assert (list(results), len(results), "a" in results, codec.decoded) == (
        ["a", "p", "m", "r"],
        4,
        True,
        0,
    )
    assert (results["a"], results["a"], codec.decoded) == ([1], [1], 1)


def test_a_compensator_finds_its_own_result_too(book: Book) -> None:
    results = Results(book, 1, CODEC, own=("b", unit("b", 9)))
    assert (dict(results), len(results)) == ({"a": [1], "b": 9}, 2)


def test_the_shape_names_units_and_the_view_reads_them(book: Book) -> None:
    shape = book.shape()
    assert shape == {
        "a": {"unit": "a"},
        "p": {"map": {"x": "p/x", "y": "p/y"}},
        "m": {"list": "m", "n": 2},
        "r": {"null": True},
    }
    entries = [
        j.UnitFailed(unit=UnitKey.of("a"), failure=boom),
        j.UnitCompleted(unit=UnitKey.of("a"), payload=CODEC.encode([1]), attempt=2),
        j.UnitCompleted(unit=UnitKey.of("p", "y"), payload=CODEC.encode(2), attempt=1),
        j.UnitCompleted(unit=UnitKey.of("p", "x"), payload=CODEC.encode({"total": 3}), attempt=1),
        j.ItemsRecorded(unit=UnitKey.of("m"), payload=CODEC.encode([0, 0])),
        j.UnitCompleted(unit=UnitKey.of("m", 0), payload=CODEC.encode(1), attempt=1),
        j.UnitFailed(unit=UnitKey.of("m", 1), failure=boom),
    ]
    plain = {"a": [1], "p": {"x": {"total": 3}, "y": 2}, "m": [1, boom], "r": None}
    assert view(shape, entries, CODEC) == plain

    def type_of(unit: UnitKey) -> Any:
        return Quote if unit == UnitKey.of("p", "x") else Any

    typed = {**plain, "p": {"x": Quote(3), "y": 2}}
    assert view(shape, entries, CODEC, type_of) == typed
    completed = j.RunCompleted(shape=shape)
    assert result_of_run([*entries, completed], CODEC, type_of=type_of) == typed


def test_a_view_of_what_is_not_there_says_so() -> None:
    with pytest.raises(EncodingError, match=r"names unit 'a', but its journal has none"):
        view({"a": {"unit": "a"}}, [], CODEC)
    with pytest.raises(EncodingError, match=r"unknown reference"):
        view({"a": {"other": "a"}}, [], CODEC)


def test_a_result_of_one_payload_is_read_by_its_type() -> None:
    completed = j.RunCompleted(payload=CODEC.encode(Quote(1), Quote))
    assert result_of_run([completed], CODEC, result_type=Quote) == Quote(1)
    assert result_of_run([j.RunCompleted(payload=None)], CODEC) is None
    assert result_of_run([], CODEC) is None


def test_all_results_make_one_payload_for_a_parent(book: Book) -> None:
    assert CODEC.decode(book.assemble(CODEC)) == {
        "a": [1],
        "p": {"x": {"total": 3}, "y": 2},
        "m": [1, {"type": "ValueError", "message": "boom"}],
        "r": None,
    }
    assert CODEC.decode(Book().assemble(CODEC)) == {}


# --- types, from handlers to readers -------------------------------------------------------------


async def quote(ctx: Context) -> Quote:
    return Quote(5)


def maybe(ctx: Context) -> Quote | Suspend:
    return Quote(6)


def quoted(ctx: Context, value: Quote) -> Quote:
    return Quote(value.total + 1)


def quotes(ctx: Context) -> list[Quote]:
    return [Quote(1), Quote(2)]


def picked(ctx: Context) -> Quote:
    assert isinstance(ctx.item, Quote)
    return Quote(ctx.item.total * 10)


def final(ctx: Context) -> list[Quote]:
    return [ctx.results["a"], ctx.result(maybe)]


TYPED = (
    Workflow("typed", input=Quote)
    .step("a", quote)
    .parallel("p", {"x": maybe, "y": lambda ctx: (1, 2)})
    .map("m", quotes, picked)
    .route("r", lambda ctx: "k", {"k": quote, "l": lambda ctx: None})
    .loop("l", quoted, feedback=lambda result: result, max_iterations=2, collect=True)
    .wait_for_signal("s", type=Quote)
    .wait_for_signal("t", type=Quote, timeout=1, on_timeout="continue")
)
WHOLE = {
    "a": Quote(5),
    "p": {"x": Quote(6), "y": (1, 2)},
    "m": [Quote(10), Quote(20)],
    "r": Quote(5),
    "l": [Quote(2), Quote(3)],
    "s": Quote(9),
    "t": None,
}
SIGNALS = {"s": CODEC.encode(Quote(9), Quote)}


def test_every_value_comes_back_as_its_annotated_type() -> None:
    seen: dict[str, Any] = {}
    workflow = TYPED.step("after", lambda ctx: seen.update(ctx.results))
    run = drive(workflow, Quote(1), signals=SIGNALS)
    assert seen == WHOLE
    assert run.result == {**WHOLE, "after": None}


def test_the_types_of_units_are_known_without_a_run() -> None:
    def type_of(*path: str) -> Any:
        return TYPED.unit_type(UnitKey(path))

    assert type_of("a") is Quote
    assert type_of("p", "x") is Quote
    assert is_untyped(type_of("p", "y"))
    assert type_of("m") == list[Quote]
    assert type_of("m", "7") is Quote
    assert type_of("r", "k") is Quote
    assert type_of("l", "0") is Quote
    assert type_of("s") is Quote
    assert is_untyped(type_of("nothing"))
    assert is_untyped(type_of("a", "b"))


def test_a_child_run_gives_its_parent_typed_results() -> None:
    child = drive(TYPED, Quote(1), signals=SIGNALS)
    assert child.ending is not None
    parent = (
        Workflow("parent", input=Quote)
        .child("c", TYPED)
        .step("a", lambda ctx: [ctx.results["c"]["r"] is None, ctx.results["c"]["m"][0].total])
    )
    run = drive(parent, Quote(1), children={"c": child.ending.assemble()})
    assert run.result["a"] == [False, 10]
    assert run.result["c"] == {**WHOLE, "r": {"total": 5}}  # a route is not known beforehand


def test_returns_is_read_by_its_annotation() -> None:
    workflow = Workflow("w").step("a", quote).step("b", maybe).returns(final)
    assert drive(workflow).result == [Quote(5), Quote(6)]
    assert workflow.result_type == list[Quote]


def test_a_result_that_is_not_what_its_annotation_says_fails_its_unit() -> None:
    def lying(ctx: Context) -> Quote:
        return 7  # type: ignore[return-value]

    assert drive(Workflow("w").step("a", lying)).failure.type == "EncodingError"


def test_unannotated_items_of_a_class_are_refused_with_a_mend() -> None:
    run = drive(Workflow("w").map("m", lambda ctx: [Quote(1)], lambda ctx: 1))
    assert run.failure.type == "EncodingError"
    assert "annotate what items= gives (-> list[Item]) or the handler's second" in str(run.failure)


def test_items_may_be_annotated_at_the_handler() -> None:
    def pick(ctx: Context, item: Quote) -> int:
        return item.total

    assert drive(Workflow("w").map("m", lambda ctx: [Quote(1)], pick)).result == {"m": [1]}


def test_the_first_pass_sees_what_a_replay_sees() -> None:
    """I-VALUE: what is handed on went through the codec."""
    seen: list[Any] = []

    def note(ctx: Context) -> None:
        seen.append(ctx.results["a"])

    given = {"list": [1]}
    workflow = Workflow("w").step("a", lambda ctx: given).step("b", note)
    run = drive(workflow)
    given["list"].append(2)
    assert (seen, run.result["a"]) == ([{"list": [1]}], {"list": [1]})
    assert CODEC.encode(None) == NULL


def test_a_signal_is_typed_where_all_waits_agree() -> None:
    workflow = (
        Workflow("w")
        .wait_for_signal("a", "one", type=Quote)
        .wait_for_signal("b", "two", type=Quote)
        .wait_for_signal("c", "two", type=int)
    )
    assert workflow.signal_type("one") is Quote
    assert workflow.signal_type("two") is workflow.signal_type("three") is Any
