"""Slices: one run of an agent, cut where something costs or changes anything.

The agent's own loop needs an event loop, and lives for as long as its run does; a body has no
loop and may be dropped at any await. But between two of its nodes all that the loop knows is its
messages. So each slice begins a run of the agent from the messages so far, lets the library take
the nodes it is for, and leaves the run: what was added goes into the journal. A slice runs
inside of a step. Rules:

1. ``request`` makes one request of the model, and nothing else.
2. ``response`` looks at a response: output is validated, and calls with wrong arguments are
   answered. Of the tools none is called: the gate defers them.
3. ``call`` makes one tool call. It begins from a response that holds this call only.
4. Everything goes through the library's nodes, so its own rules for validation, retries,
   approval and output stay in force.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import attrs
from pydantic import TypeAdapter
from pydantic_ai import (
    AgentRun,
    CallDeferred,
    CallToolsNode,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestNode,
    ModelResponse,
    RunContext,
    RunUsage,
    ToolApproved,
    ToolCallPart,
    ToolDefinition,
    ToolDenied,
    UsageLimits,
    UserContent,
    UserError,
)
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.tools import AgentDepsT
from pydantic_graph import End

from .people import Approval
from .records import Call, Called, Json, Turn, Waits

Prompt = str | Sequence[UserContent] | None
Reply = tuple[Waits, Any] | None
"""What somebody said to a call that waited."""

USAGE: TypeAdapter[RunUsage] = TypeAdapter(RunUsage)
GATE = "durable_core"


@dataclass
class Gate(AbstractCapability[AgentDepsT]):
    """Defers every tool call that could be made: each is to be a step of its own."""

    deferred: list[Call] = field(default_factory=list)

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: Any,
        handler: Any,
    ) -> Any:
        """In place of the call."""
        sequential = bool(tool_def.sequential)
        arguments = call.args_as_dict()
        self.deferred.append(
            Call(call.tool_call_id, call.tool_name, arguments, sequential=sequential)
        )
        raise CallDeferred({GATE: {"sequential": sequential}})


@attrs.frozen(slots=True)
class Slices:
    """An agent, and how its runs are begun."""

    agent: AbstractAgent[Any, Any]
    spec: Any
    """The output types to run with, if not the agent's own."""
    output: TypeAdapter[Any]
    limits: UsageLimits | None

    async def request(self, history: list[Json], usage: Json, prompt: Prompt, deps: Any) -> Turn:
        """One request of the model; with a prompt, or with the last request of the history."""
        async with self._begin(load(history), deps, prompt=prompt, usage=usage) as run:
            node = await first(run)
            if not isinstance(node, ModelRequestNode):
                raise UserError("the history ends in tool calls that nobody has answered")
            return self._turn(history, run, await run.next(node))

    async def response(self, history: list[Json], usage: Json, deps: Any) -> Turn:
        """What the last response of the history comes to, but for its tool calls."""
        gate: Gate[Any] = Gate()
        async with self._begin(load(history), deps, usage=usage, capabilities=[gate]) as run:
            node = await first(run)
            if not isinstance(node, CallToolsNode):  # a text, which is not to be asked for again
                node = CallToolsNode(last_response(run.all_messages()))
            return self._turn(history, run, await run.next(node), beside=gate.deferred)

    async def call(self, history: list[Json], call: Call, reply: Reply, deps: Any) -> Called:
        """Make one tool call of the last response."""
        messages = load(history)
        while not isinstance(messages[-1], ModelResponse):
            messages.pop()
        last = last_response(messages)
        lone = [part for part in last.tool_calls if part.tool_call_id == call.id]
        messages[-1] = replace(last, parts=lone)
        results = None if reply is None else results_of(call, reply)
        async with self._begin(messages, deps, deferred_tool_results=results) as run:
            node = await run.next(await first(run))
            waits: Waits = "nothing"
            parts: list[Json] = []
            if isinstance(node, ModelRequestNode):
                parts = dump([node.request])[0]["parts"]
            elif isinstance(node, End) and isinstance(node.data.output, DeferredToolRequests):
                waits = "approval" if node.data.output.approvals else "answer"
            return Called(parts, dump_usage(run.usage), waits)

    @asynccontextmanager
    async def _begin(
        self, messages: list[ModelMessage], deps: Any, *, usage: Json | None = None, **options: Any
    ) -> AsyncIterator[AgentRun[Any, Any]]:
        async with self.agent.iter(
            options.pop("prompt", None),
            message_history=messages,
            deps=deps,
            output_type=self.spec,
            usage=load_usage(usage),
            usage_limits=self.limits,
            infer_name=False,
            **options,
        ) as run:
            yield run

    def _turn(
        self,
        history: list[Json],
        run: AgentRun[Any, Any],
        node: Any,
        beside: Sequence[Call] = (),
    ) -> Turn:
        messages = list(run.all_messages())
        if isinstance(node, ModelRequestNode):
            return self._record("request", history, run, [*messages, node.request])
        if isinstance(node, CallToolsNode):
            return self._record("response", history, run, messages)
        output = node.data.output
        if isinstance(output, DeferredToolRequests):
            calls = calls_of(output, last_response(messages))
            return self._record("tools", history, run, messages, calls=calls)
        value = self.output.dump_python(output, mode="json")
        # Calls beside an output that are to be made all the same (`end_strategy`).
        return self._record("end", history, run, messages, output=value, calls=list(beside))

    def _record(
        self,
        then: Any,
        history: list[Json],
        run: AgentRun[Any, Any],
        messages: list[ModelMessage],
        **more: Any,
    ) -> Turn:
        now = dump(messages)
        keep = 0
        while keep < min(len(now), len(history)) and now[keep] == history[keep]:
            keep += 1
        return Turn(next=then, keep=keep, add=now[keep:], usage=dump_usage(run.usage), **more)


async def first(run: AgentRun[Any, Any]) -> Any:
    """Take the first node, in which the library reads the messages; gives what is next."""
    node = run.next_node
    assert not isinstance(node, End), "a run that has just begun has not ended"
    return await run.next(node)


def calls_of(requests: DeferredToolRequests, response: ModelResponse) -> list[Call]:
    """The deferred calls, in the order in which the model wants them."""
    approvals = {part.tool_call_id for part in requests.approvals}
    order = [part.tool_call_id for part in response.tool_calls]
    calls = []
    for part in [*requests.approvals, *requests.calls]:
        ours = requests.metadata.get(part.tool_call_id, {}).get(GATE)
        waits: Waits = "nothing" if ours is not None else "answer"
        if part.tool_call_id in approvals:
            waits = "approval"
        sequential = bool(ours and ours["sequential"])
        args = part.args_as_dict()
        calls.append(Call(part.tool_call_id, part.tool_name, args, waits, sequential))
    return sorted(calls, key=lambda call: order.index(call.id))


def results_of(call: Call, reply: tuple[Waits, Any]) -> DeferredToolResults:
    """What was said to a call, as the library takes it."""
    kind, said = reply
    if kind == "answer":
        return DeferredToolResults(calls={call.id: said})
    assert isinstance(said, Approval)
    if said.approved:
        return DeferredToolResults(
            approvals={call.id: ToolApproved(override_args=said.override_args)}
        )
    denied = ToolDenied() if said.message is None else ToolDenied(said.message)
    return DeferredToolResults(approvals={call.id: denied})


def last_response(messages: Sequence[ModelMessage]) -> ModelResponse:
    """The last response in these messages."""
    return next(message for message in reversed(messages) if isinstance(message, ModelResponse))


def dump(messages: Sequence[ModelMessage]) -> list[Json]:
    """Messages as JSON values."""
    dumped: list[Json] = json.loads(ModelMessagesTypeAdapter.dump_json(list(messages)))
    return dumped


def load(history: Sequence[Json]) -> list[ModelMessage]:
    """JSON values as messages."""
    return ModelMessagesTypeAdapter.validate_json(json.dumps(list(history)))


def dump_usage(usage: RunUsage) -> Json:
    """Usage as JSON values."""
    dumped: Json = USAGE.dump_python(usage, mode="json")
    return dumped


def load_usage(usage: Json | None) -> RunUsage:
    """JSON values as usage; nothing is none."""
    return RunUsage() if usage is None else USAGE.validate_python(usage)


def blank_request() -> Json:
    """A request without parts."""
    return dump([ModelRequest(parts=[])])[0]
