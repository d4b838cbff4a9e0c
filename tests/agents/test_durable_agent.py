"""A durable agent does what the agent does, one step at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    DeferredToolRequests,
    EndStrategy,
    ModelMessage,
    ModelRequest,
    ModelRetry,
    RunContext,
    ToolOutput,
    ToolReturnPart,
    UsageLimits,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset
from tests.agents.scripted import Script, calls, heard, says

from durable_core import (
    DefinitionError,
    Engine,
    Retry,
    Run,
    RunFailed,
    Workflow,
    WorkflowContext,
    workflow,
)
from durable_pydantic_ai import DurableAgent, Question, answer, approve, deny, questions


def using(agent: DurableAgent[Any, Any]) -> Workflow[str, Any]:
    """A workflow that runs the agent, and gives what it came to."""

    @workflow(name="ask")
    async def ask(ctx: WorkflowContext, prompt: str) -> Any:
        return (await agent.run(ctx, prompt)).output

    return ask


async def finished(agent: DurableAgent[Any, Any], prompt: str = "hello") -> tuple[Any, list[str]]:
    """Its result, and the units that it took."""
    asking = using(agent)
    async with Engine("memory://", [asking]) as engine, engine.worker():
        run = await engine.start(asking, prompt)
        result = await run.result(timeout=10)
        done = [entry for entry in await run.journal() if entry.kind == "unit_completed"]
        return result, [str(entry.unit) for entry in done]


async def asked(run: Run[Any], *, after: Question | None = None) -> Question:
    """The one question of a run that waits for somebody."""
    while (found := await questions(run)) in ([], [after]):
        with pytest.raises(TimeoutError):
            await run.wait(timeout=0.01)
    (question,) = found
    return question


async def test_each_request_and_each_tool_call_is_a_unit() -> None:
    agent = Agent(TestModel(), name="helper")

    @agent.tool_plain
    def look(path: str) -> str:
        return f"{path} is there"

    result, units = await finished(DurableAgent(agent))

    assert result == '{"look":"a is there"}'
    assert units == [
        *("helper.model", "helper.response", "helper.tool.look", "helper.model#2"),
        "helper.response#2",
    ]


class City(BaseModel):
    name: str
    people: int


async def test_what_it_gives_is_typed() -> None:
    agent: Agent[None, City] = Agent(
        TestModel(custom_output_args={"name": "Oslo", "people": 7}), output_type=City
    )
    durable = DurableAgent(agent)

    @workflow
    async def ask(ctx: WorkflowContext) -> int:
        return (await durable.run(ctx, "which city?")).output.people

    async with Engine("memory://", [ask]) as engine, engine.worker():
        assert await (await engine.start(ask)).result(timeout=10) == 7


@pytest.mark.parametrize("strategy", ["early", "graceful", "exhaustive"])
@pytest.mark.parametrize("first", ["look", "ask", "final_result"])
async def test_tools_that_are_called_beside_an_output_are_treated_as_by_the_library(
    strategy: EndStrategy, first: str
) -> None:
    wanted: list[tuple[str, str, dict[str, object]]] = [
        ("c1", "look", {}),
        ("c2", "final_result", {"name": "Oslo", "people": 7}),
        ("c3", "ask", {}),
    ]
    wanted.sort(key=lambda call: call[1] != first)
    script = Script(calls(*wanted))
    agent: Agent[None, City] = Agent(script.model, output_type=City, end_strategy=strategy)
    looked: list[int] = []

    @agent.tool_plain
    async def look() -> str:
        looked.append(1)
        return "seen"

    @agent.tool_plain(requires_approval=True)
    async def ask() -> str:
        raise AssertionError("nobody said yes")

    def told(messages: list[ModelMessage]) -> list[tuple[str, str]]:
        last = messages[-1]
        assert isinstance(last, ModelRequest)
        parts = [part for part in last.parts if isinstance(part, ToolReturnPart)]
        return sorted((part.tool_call_id, str(part.content)) for part in parts)

    durable = DurableAgent(agent)

    @workflow
    async def run(ctx: WorkflowContext) -> list[tuple[str, str]]:
        return told((await durable.run(ctx, "which city?")).messages())

    plain = told((await agent.run("which city?")).all_messages())
    async with Engine("memory://", [run]) as engine, engine.worker():
        assert await (await engine.start(run)).result(timeout=10) == plain

    assert len(looked) == (0 if strategy == "early" else 2)


async def test_an_output_type_that_cannot_be_read_is_asked_for() -> None:
    agent = Agent(TestModel(), output_type=ToolOutput(City, name="city"))

    with pytest.raises(DefinitionError, match="output_type="):
        DurableAgent(agent)
    DurableAgent(agent, output_type=City)


async def test_an_answer_that_a_validator_refuses_is_asked_for_again() -> None:
    script = Script(says("five"), says("5"))
    agent: Agent[None, str | DeferredToolRequests] = Agent(
        script.model, output_type=[str, DeferredToolRequests], instructions="Use digits."
    )

    @agent.output_validator
    def digits(output: str | DeferredToolRequests) -> str | DeferredToolRequests:
        if output == "five":
            raise ModelRetry("digits, please")
        return output

    result, units = await finished(DurableAgent(agent))

    assert result == "5"
    assert script.asked == [0, 1]
    assert units == ["agent.model", "agent.response", "agent.model#2", "agent.response#2"]


async def test_wrong_arguments_and_tools_that_ask_for_a_retry_are_told_to_the_model() -> None:
    script = Script(
        calls(("c1", "halve", {"number": "many"}), ("c2", "halve", {"number": 3})),
        calls(("c3", "halve", {"number": 4})),
        heard,
    )
    agent = Agent(script.model)

    @agent.tool_plain(retries=2)
    async def halve(number: int) -> int:
        if number % 2:
            raise ModelRetry("even numbers only")
        return number // 2

    result, units = await finished(DurableAgent(agent))

    assert result == "2"
    assert [unit for unit in units if "tool" in unit] == ["agent.tool.halve", "agent.tool.halve#2"]


async def test_a_tool_that_raises_is_retried_alone() -> None:
    script = Script(calls(("c1", "flaky", {})), heard)
    agent = Agent(script.model)
    tries: list[int] = []

    @agent.tool_plain
    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("away")
        return "back"

    options = {"flaky": {"retry": Retry(initial=0)}}
    result, _ = await finished(DurableAgent(agent, tools=options))

    assert (result, len(tries), script.asked) == ("back", 3, [0, 1])


def deleting(script: Script) -> Agent[None, str]:
    agent: Agent[None, str] = Agent(script.model, name="cleaner")

    @agent.tool(retries=1)
    async def delete(ctx: RunContext[None], path: str) -> str:
        if path != "tmp" and not ctx.tool_call_approved:
            raise ApprovalRequired
        return f"{path} is gone"

    return agent


@pytest.mark.parametrize(
    ("verb", "options", "told"),
    [
        (approve, {}, "old is gone | tmp is gone"),
        (approve, {"override_args": {"path": "older"}}, "older is gone | tmp is gone"),
        (deny, {"message": "keep it"}, "keep it | tmp is gone"),
    ],
)
async def test_a_call_waits_for_approval(verb: Any, options: Any, told: str) -> None:
    wanted = calls(("c1", "delete", {"path": "old"}), ("c2", "delete", {"path": "tmp"}))
    asking = using(DurableAgent(deleting(Script(wanted, heard))))
    async with Engine("memory://", [asking]) as engine, engine.worker():
        run = await engine.start(asking, "tidy up")
        question = await asked(run)
        await verb(run, question, **options)
        await verb(run, question, **options)

        assert await run.result(timeout=10) == told
        assert (question.tool, question.args) == ("delete", {"path": "old"})


async def test_who_does_not_answer_in_time_has_denied() -> None:
    agent = deleting(Script(calls(("c1", "delete", {"path": "old"})), heard))

    result, _ = await finished(DurableAgent(agent, patience=0.01))

    assert result == "nobody answered in time"


async def test_the_result_of_an_external_tool_comes_by_a_signal() -> None:
    schema = {"type": "object", "properties": {"part": {"type": "string"}}}
    tools: Any = ExternalToolset([ToolDefinition(name="order", parameters_json_schema=schema)])
    agent = Agent(Script(calls(("c1", "order", {"part": "axle"})), heard).model, toolsets=[tools])
    asking = using(DurableAgent(agent))
    async with Engine("memory://", [asking]) as engine, engine.worker():
        run = await engine.start(asking, "an axle")
        await answer(run, await asked(run), "it comes on Monday")

        assert await run.result(timeout=10) == "it comes on Monday"


async def test_the_limits_of_usage_are_those_of_the_whole_run() -> None:
    call = calls(("c1", "look", {}))
    agent = Agent(Script(call, calls(("c2", "look", {})), heard).model)

    @agent.tool_plain
    async def look() -> str:
        return "nothing"

    for limits in (UsageLimits(request_limit=2), UsageLimits(tool_calls_limit=1)):
        with pytest.raises(RunFailed, match="UsageLimitExceeded"):
            await finished(DurableAgent(agent, usage_limits=limits))


async def test_a_conversation_goes_on_with_its_history() -> None:
    script = Script(says("hello Ada"), says("you are Ada"))
    durable = DurableAgent(Agent(script.model))

    @workflow
    async def talk(ctx: WorkflowContext) -> list[str]:
        one = await durable.run(ctx, "I am Ada")
        two = await durable.run(ctx, "who am I?", history=one.history)
        return [one.output, two.output, str(two.usage.requests), str(len(two.messages()))]

    async with Engine("memory://", [talk]) as engine, engine.worker():
        run = await engine.start(talk)
        assert await run.result(timeout=10) == ["hello Ada", "you are Ada", "1", "4"]


async def test_a_call_id_that_comes_again_is_asked_about_again() -> None:
    wanted = calls(("c1", "delete", {"path": "old"}))
    durable = DurableAgent(deleting(Script(wanted, heard)))

    @workflow
    async def twice(ctx: WorkflowContext) -> list[str]:
        return [(await durable.run(ctx, "tidy up")).output for _ in range(2)]

    async with Engine("memory://", [twice]) as engine, engine.worker():
        run = await engine.start(twice)
        first = await asked(run)
        await approve(run, first)
        await deny(run, await asked(run, after=first), "not again")

        assert await run.result(timeout=10) == ["old is gone", "not again"]


async def test_another_engine_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    """Each engine has its own objects, as two processes would: only the file is shared."""
    url = f"sqlite:///{tmp_path}/agents.db"
    scripts = [Script(calls(("c1", "delete", {"path": "old"})), heard) for _ in range(2)]
    first, second = (using(DurableAgent(deleting(script))) for script in scripts)
    async with Engine(url, [first]) as engine, engine.worker():
        await asked(await engine.start(first, "tidy up", id="monday"))
    async with Engine(url, [second]) as engine, engine.worker():
        run = engine.run("monday")
        await approve(run, await asked(run))
        assert await run.result(timeout=10) == "old is gone"

    assert [script.asked for script in scripts] == [[0], [1]]
