"""Cases R1-R26: building and registering, as the reference's rewrite asserts it, in our meaning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.acceptance.stage import ONCE, PATIENCE_S, Calls, Stage, units

from durable_core import (
    SKIP,
    Branch,
    DefinitionError,
    Engine,
    Retry,
    StepContext,
    Undo,
    Workflow,
    WorkflowNotRegisteredError,
)

Ctx = StepContext[Any, Any]
Flow = Workflow[Any, dict[str, Any]]


async def handler(ctx: Ctx) -> str:
    return ctx.step_name


async def undo(ctx: Ctx) -> None:
    return None


async def each(ctx: Ctx, value: Any) -> Any:
    return value


def the_node(workflow: Flow) -> Any:
    (node,) = workflow.nodes
    return node


def test_r1_a_workflow_has_a_name() -> None:
    """An empty workflow name is refused."""
    with pytest.raises(DefinitionError, match="name of the workflow must not be empty"):
        Workflow("")


def test_r2_steps_keep_their_order_and_have_three_attempts() -> None:
    """Steps stand in the order they were written, each with three attempts unless it says else."""
    wf = Workflow("order").step("b", handler).step("a", handler)
    nodes: tuple[Any, ...] = wf.nodes
    assert [(node.name, node.work.retry.max_attempts) for node in nodes] == [("b", 3), ("a", 3)]


def test_r3_backoff_doubles_up_to_its_cap() -> None:
    """Ours begins at 1 s; begun at 2 s it is the reference's 2, 4, 8, with the same cap of 60 s.

    Jitter only lengthens a delay, by a tenth at most, and is the same wherever it is computed.
    """
    plain = Retry(max_attempts=20, initial=timedelta(seconds=2), jitter=0)
    assert [plain.delay_ms(n, "run") for n in (1, 2, 3, 10)] == [2_000, 4_000, 8_000, 60_000]
    policy = Retry(initial=timedelta(seconds=2))
    assert 2_000 <= policy.delay_ms(1, "run") <= 2_200
    assert policy.delay_ms(1, "run") == policy.delay_ms(1, "run")


def test_r4_what_a_step_overrides_is_kept() -> None:
    """Compensator, policies and time-out are kept as given; the compensator has policies too."""
    node = the_node(
        Workflow("order").step(
            "a",
            handler,
            compensate=Undo(undo, retry=ONCE, timeout=timedelta(seconds=3)),
            retry=Retry(max_attempts=7, initial=timedelta(seconds=9)),
            timeout=timedelta(seconds=10),
        )
    )
    assert (node.work.retry.max_attempts, node.work.retry.initial) == (7, timedelta(seconds=9))
    assert node.work.timeout_ms == 10_000
    assert (node.work.undo.handler, node.work.undo.retry) == (undo, ONCE)
    assert node.work.undo.timeout_ms == 3_000


def test_r5_a_name_is_taken_once() -> None:
    """A second step of one name is a ``DefinitionError`` that says who and where."""
    with pytest.raises(DefinitionError, match=r"(?s)order.*'a'.*taken"):
        Workflow("order").step("a", handler).step("a", handler)


def test_r6_a_step_has_a_name() -> None:
    """An empty step name is refused, naming the workflow."""
    with pytest.raises(DefinitionError, match=r"(?s)order.*name of the step must not be empty"):
        Workflow("order").step("", handler)


def test_r7_a_definition_is_a_value_with_a_name_and_steps() -> None:
    """Ours is built by chaining: every call gives a new frozen workflow, the old one unchanged."""
    empty = Workflow("order", version="2")
    one = empty.step("a", handler)
    assert (one.name, one.version) == ("order", "2")
    assert [node.name for node in one.nodes] == ["a"]
    assert empty.nodes == ()
    with pytest.raises(AttributeError):
        one.name = "another"  # type: ignore[misc]  # frozen


async def test_r8_an_engine_starts_what_it_lists(stage: Stage) -> None:
    """A listed workflow is started by its definition or by its name; of versions, the last."""
    first = Workflow("order", version="1").step("a", handler)
    second = Workflow("order", version="2").step("b", handler)
    async with stage.running(first, second) as engine:
        by_name = await engine.start("order")
        by_value = await engine.start(first)
        assert await by_name.result(timeout=PATIENCE_S) == {"b": "b"}
        assert await by_value.result(timeout=PATIENCE_S) == {"a": "a"}
        assert ((await by_name.info()).version, (await by_value.info()).version) == ("2", "1")


def test_r9_a_workflow_is_listed_once(engine_url: str) -> None:
    """Two different definitions of one name and version are refused; another version is fine."""
    first = Workflow("order").step("a", handler)
    second = Workflow("order").step("b", handler)
    with pytest.raises(DefinitionError, match=r"(?s)order.*defined twice"):
        Engine(engine_url, [first, second])
    Engine(engine_url, [first, Workflow("order", version="2").step("b", handler)])


async def test_r10_an_engine_lists_many_workflows(stage: Stage) -> None:
    """All workflows of the list are known, and the children of each come with it."""
    child = Workflow("child").step("c", handler)
    flows = [Workflow(f"w{n}").step("a", handler) for n in range(3)]
    parent = Workflow("parent").child("sub", child)
    async with stage.running(*flows, parent) as engine:
        for name, result in [
            ("w0", {"a": "a"}),
            ("w1", {"a": "a"}),
            ("w2", {"a": "a"}),
            ("child", {"c": "c"}),
            ("parent", {"sub": {"c": "c"}}),
        ]:
            run = await engine.start(name)
            assert await run.result(timeout=PATIENCE_S) == result


async def test_r11_an_unknown_workflow_is_named_with_the_known_ones(stage: Stage) -> None:
    """Starting what is not listed says its name and what there is instead."""
    async with stage.engine(Workflow("known-one").step("a", handler)) as engine:
        with pytest.raises(WorkflowNotRegisteredError, match=r"(?s)missing.*known-one"):
            await engine.start("missing")


def test_r12_a_sleep_keeps_its_duration() -> None:
    """A duration is a ``timedelta`` or seconds."""
    assert the_node(Workflow("w").sleep("nap", timedelta(minutes=5))).duration == 300_000
    assert the_node(Workflow("w").sleep("nap", 2.5)).duration == 2_500


async def test_r13_a_sleep_takes_a_function_of_the_context(stage: Stage, calls: Calls) -> None:
    """The function is called once and what it gives is journaled."""

    def nap(ctx: Ctx) -> timedelta:
        calls.made.append("nap")
        return timedelta(milliseconds=int(ctx.input))

    wf = Workflow("w").sleep("nap", nap).step("up", handler)
    async with stage.running(wf) as engine:
        run = await engine.start(wf, 2)
        assert await run.result(timeout=PATIENCE_S) == {"up": "up"}
        assert units(await run.journal(), "timer_fired") == ["nap"]
    assert calls.made == ["nap"]


def test_r14_a_wait_keeps_the_name_of_its_signal() -> None:
    """The signal is named, or called like the step."""
    assert the_node(Workflow("w").wait_for_signal("ok", "risk.approved")).signal == "risk.approved"
    assert the_node(Workflow("w").wait_for_signal("ok")).signal == "ok"


async def test_r15_a_wait_takes_a_function_of_the_context(stage: Stage) -> None:
    """The name may depend on what is known by then; it is computed once."""
    wf = Workflow("w").wait_for_signal("ok", lambda ctx: f"approved.{ctx.input}")
    async with stage.running(wf) as engine:
        run = await engine.start(wf, 7)
        await run.signal("approved.7", "yes")
        assert await run.result(timeout=PATIENCE_S) == {"ok": "yes"}


def test_r16_a_parallel_keeps_its_entries_each_with_three_attempts() -> None:
    """Entries stand in the order of the mapping; ours has a policy for each of them."""
    node = the_node(Workflow("w").parallel("p", {"x": handler, "y": Branch(handler)}))
    assert [name for name, _ in node.entries] == ["x", "y"]
    assert [work.retry.max_attempts for _, work in node.entries] == [3, 3]


def test_r17_a_parallel_is_not_empty() -> None:
    """A parallel without entries is refused."""
    with pytest.raises(DefinitionError, match=r"(?s)'p'.*empty"):
        Workflow("w").parallel("p", {})


def test_r18_what_an_entry_overrides_is_kept() -> None:
    """A ``Branch`` has a policy, a time-out and a compensator of its own."""
    branch = Branch(handler, retry=ONCE, timeout=2, compensate=undo)
    node = the_node(Workflow("w").parallel("p", {"x": branch, "y": handler}, max_concurrency=1))
    works = dict(node.entries)
    assert (works["x"].retry, works["x"].timeout_ms, works["x"].undo.handler) == (ONCE, 2_000, undo)
    assert (works["y"].retry, works["y"].timeout_ms, works["y"].undo) == (Retry(), None, None)
    assert node.max_concurrency == 1


def test_r19_a_route_keeps_its_selector_and_branches() -> None:
    """Selector, branches and what is done with an unknown key are kept."""

    def select(ctx: Ctx) -> str:
        return "x"

    node = the_node(Workflow("w").route("r", select, {"x": handler, "y": each_one}, otherwise=SKIP))
    assert node.select is select
    assert [(key, work.handler) for key, work in node.branches] == [
        ("x", handler),
        ("y", each_one),
    ]
    assert node.otherwise is SKIP


async def each_one(ctx: Ctx) -> int:
    return 1


def test_r20_a_route_is_not_empty() -> None:
    """A route without branches is refused."""
    with pytest.raises(DefinitionError, match=r"(?s)'r'.*empty"):
        Workflow("w").route("r", lambda ctx: "x", {})


def test_r21_a_loop_has_a_cap() -> None:
    """Unless it says else, a loop ends after a thousand iterations."""
    assert the_node(Workflow("w").loop("l", each)).max_iterations == 1_000


def test_r22_a_loop_keeps_its_cap() -> None:
    """The cap is kept; one below 1 is refused, where the reference makes it a step without work."""
    assert the_node(Workflow("w").loop("l", each, max_iterations=3)).max_iterations == 3
    for wrong in (0, -1):
        with pytest.raises(DefinitionError, match="max_iterations"):
            Workflow("w").loop("l", each, max_iterations=wrong)


async def test_r23_a_parent_does_not_poll_its_child(stage: Stage) -> None:
    """Ours has no poll interval: a waiting parent has no due time and the child's end wakes it."""
    child = Workflow("child").wait_for_signal("go")
    parent = Workflow("parent").child("sub", child)
    async with stage.running(parent) as engine:
        run = await engine.start(parent)
        await stage.watch.suspended(run.id)
        (wait,) = (await run.info()).waiting_for
        assert (wait.kind, wait.unit, wait.until) == ("child", "sub", None)
        store = stage.store()
        await store.open()
        assert (await store.get([run.id]))[run.id].due_at_ms is None
        await store.close()
        assert wait.name is not None
        await engine.signal(wait.name, "go", 1)
        assert await run.result(timeout=PATIENCE_S) == {"sub": {"go": 1}}


def test_r24_a_child_step_keeps_what_it_is_given() -> None:
    """There is no poll interval to override; the workflow, its input and its undo are kept."""
    child = Workflow("child").step("a", handler)

    def input_of(ctx: Ctx) -> int:
        return 1

    node = the_node(Workflow("w").child("sub", child, input=input_of, compensate=undo))
    assert (node.workflow, node.input) == (child, input_of)
    assert node.undo is not None
    assert node.undo.handler is undo
    with pytest.raises(TypeError):
        Workflow("w").child("sub", child, poll_interval=2)  # type: ignore[call-arg]


BUILDERS: dict[str, Callable[[Flow, str], Flow]] = {
    "step": lambda wf, name: wf.step(name, handler),
    "parallel": lambda wf, name: wf.parallel(name, {f"e{len(wf.nodes)}": handler}),
    "parallel entry": lambda wf, name: wf.parallel(f"p{len(wf.nodes)}", {name: handler}),
    "map": lambda wf, name: wf.map(name, lambda ctx: [1], each),
    "route": lambda wf, name: wf.route(name, lambda ctx: "x", {"x": handler}),
    "loop": lambda wf, name: wf.loop(name, each),
    "sleep": lambda wf, name: wf.sleep(name, 1),
    "signal": lambda wf, name: wf.wait_for_signal(name),
    "child": lambda wf, name: wf.child(name, "another"),
}


@pytest.mark.parametrize("second", BUILDERS)
@pytest.mark.parametrize("first", BUILDERS)
def test_r25_all_builder_calls_share_one_space_of_names(first: str, second: str) -> None:
    """Whatever kinds of step they are, and entries of a parallel too, names are taken once."""
    started = BUILDERS[first](Workflow("w"), "same")
    with pytest.raises(DefinitionError, match=r"(?s)'same'.*taken"):
        BUILDERS[second](started, "same")


def test_r26_builder_calls_chain_in_order() -> None:
    """Every call continues the workflow it was made on."""
    wf = Workflow("w")
    for name, build in BUILDERS.items():
        wf = build(wf, name.replace(" ", "-"))
    assert [node.kind for node in wf.nodes] == [
        "step",
        "parallel",
        "parallel",
        "map",
        "route",
        "loop",
        "sleep",
        "signal",
        "child",
    ]
