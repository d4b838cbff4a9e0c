"""DurableAgent: the loop of an agent, as durable code.

``await durable.run(ctx, "...")`` in the body of a workflow does what ``agent.run("...")`` does,
with each model request, each look at a response, and each tool call as a step. The loop itself
knows nothing but messages in JSON, so a replay gets as far as the journal does and asks no model
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar, get_args, get_origin

import attrs
from pydantic import TypeAdapter
from pydantic_ai import (
    DeferredToolRequests,
    ModelMessage,
    RunUsage,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UsageLimits,
    UserError,
)
from pydantic_ai.agent import AbstractAgent

from durable_core import TIMED_OUT, DefinitionError, Pending, Retry, Step, WorkflowContext, step

from .people import Approval
from .records import Call, Called, Json, Turn, after, answered
from .slices import Prompt, Reply, Slices, blank_request, dump_usage, load, load_usage

DepsT = TypeVar("DepsT")
OutputT = TypeVar("OutputT")

GIVE_UP = (UserError, UsageLimitExceeded)
"""What another attempt would not change."""
NOBODY = "nobody answered in time"


@attrs.frozen(slots=True)
class Answer(Generic[OutputT]):
    """What the agent came to."""

    output: OutputT
    history: list[Json]
    """The messages as JSON, e.g. for the ``history`` of the next run."""
    usage: RunUsage

    def messages(self) -> list[ModelMessage]:
        """The messages as the library's objects."""
        return load(self.history)


class DurableAgent(Generic[DepsT, OutputT]):
    """An agent whose model requests and tool calls are steps of a workflow's body.

    ``name`` begins the keys of its steps (``name.model``, ``name.tool.search``); by default the
    agent's. ``output_type`` is what it gives, where the agent's own output type is not one plain
    type. ``retry`` and ``timeout`` are for model requests; ``tools`` gives the options of
    ``Step.with_options`` for tools by name. Who does not answer within ``patience`` has denied.
    """

    def __init__(
        self,
        agent: AbstractAgent[DepsT, OutputT | DeferredToolRequests],
        *,
        name: str | None = None,
        output_type: type[OutputT] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        tools: Mapping[str, Mapping[str, Any]] | None = None,
        max_concurrency: int | None = None,
        patience: timedelta | float | None = None,
        usage_limits: UsageLimits | None = None,
    ) -> None:
        self.name = name or agent.name or "agent"
        self.agent = agent
        types = _listed(agent.output_type)
        spec = None if DeferredToolRequests in types else [*types, DeferredToolRequests]
        self._output: TypeAdapter[OutputT] = TypeAdapter(output_type or self._plain(types))
        self._limits = usage_limits or UsageLimits()
        slices = Slices(agent, spec, self._output, self._limits)
        again = Retry(give_up_on=(*GIVE_UP, UnexpectedModelBehavior))
        self._request: Step[..., Turn] = step(
            name=f"{self.name}.model",
            retry=retry or Retry(give_up_on=GIVE_UP),
            timeout=timeout,
        )(slices.request)
        self._response: Step[..., Turn] = step(name=f"{self.name}.response", retry=again)(
            slices.response
        )
        self._call: Step[..., Called] = step(name=f"{self.name}.tool", retry=again)(slices.call)
        self._tools = dict(tools or {})
        self._max_concurrency = max_concurrency
        self._patience = patience

    def __repr__(self) -> str:
        return f"<DurableAgent {self.name!r}>"

    async def run(
        self,
        ctx: WorkflowContext[Any],
        prompt: Prompt = None,
        *,
        history: Sequence[Json] = (),
        deps: DepsT | None = None,
    ) -> Answer[OutputT]:
        """Run the agent to its end, in the body of a workflow.

        ``history`` is that of an earlier answer. ``deps`` are the agent's; like the prompt they
        are no part of the journal, so make them of ``ctx.deps`` and of the run's input.
        """
        so_far, usage = list(history), dump_usage(RunUsage())
        turn = await ctx.step(self._request, so_far, usage, prompt, deps)
        while True:
            so_far, usage = after(so_far, turn), turn.usage
            if turn.next == "end":
                if turn.calls:
                    so_far, usage = await self._call_all(
                        ctx, so_far, usage, turn.calls, deps, ask=False
                    )
                output = self._output.validate_python(turn.output)
                return Answer(output, so_far, load_usage(usage))
            if turn.next == "response":
                turn = await ctx.step(self._response, so_far, usage, deps)
                continue
            if turn.next == "tools":
                so_far, usage = await self._call_all(ctx, so_far, usage, turn.calls, deps)
            turn = await ctx.step(self._request, so_far, usage, None, deps)

    async def _call_all(
        self,
        ctx: WorkflowContext[Any],
        history: list[Json],
        usage: Json,
        calls: list[Call],
        deps: Any,
        *,
        ask: bool = True,
    ) -> tuple[list[Json], Json]:
        """The history with the answers to all of these calls; those that wait for somebody are
        left out if nobody is to be asked."""
        total = load_usage(usage)
        self._limits.check_before_tool_call(total + RunUsage(tool_calls=len(calls)))
        parts: dict[str, list[Json]] = {}
        ready: list[tuple[Call, Reply]] = [
            (call, None) for call in calls if call.waits == "nothing"
        ]
        waiting = [call for call in calls if call.waits != "nothing"]
        while ready or (waiting and ask):
            if not ready:
                ready, waiting = await self._ask(ctx, waiting), []
            for (call, _), called in zip(
                ready, await self._make(ctx, history, ready, deps), strict=True
            ):
                total = total + load_usage(called.usage)
                parts[call.id] = called.parts
                if called.waits != "nothing":
                    waiting.append(attrs.evolve(call, waits=called.waits))
            ready = []
        flat = [part for call in calls for part in parts[call.id]]
        return answered(history, flat, blank_request()), dump_usage(total)

    async def _make(
        self,
        ctx: WorkflowContext[Any],
        history: list[Json],
        ready: list[tuple[Call, Reply]],
        deps: Any,
    ) -> list[Called]:
        steps: list[Pending[Called]] = [
            ctx.step(self._step_of(call), history, call, reply, deps) for call, reply in ready
        ]
        if any(call.sequential for call, _ in ready):
            return await ctx.all(*steps, max_concurrency=1)
        return await ctx.all(*steps, max_concurrency=self._max_concurrency)

    async def _ask(
        self, ctx: WorkflowContext[Any], waiting: list[Call]
    ) -> list[tuple[Call, Reply]]:
        """Wait for all that is to be said from outside, at once."""
        said = await ctx.all(*(self._wait(ctx, call) for call in waiting))
        replies: list[tuple[Call, Reply]] = []
        for call, one in zip(waiting, said, strict=True):
            if one is TIMED_OUT:
                one = Approval(False, NOBODY) if call.waits == "approval" else NOBODY
            replies.append((call, (call.waits, one)))
        return replies

    def _wait(self, ctx: WorkflowContext[Any], call: Call) -> Pending[Any]:
        if call.waits == "approval":
            return ctx.wait_for_signal(call.signal, Approval, timeout=self._patience)
        return ctx.wait_for_signal(call.signal, timeout=self._patience)

    def _step_of(self, call: Call) -> Step[..., Called]:
        key = "".join("." if char in "/#" else char for char in f"{self.name}.tool.{call.tool}")
        return self._call.with_options(key=key, **self._tools.get(call.tool, {}))

    def _plain(self, types: list[Any]) -> Any:
        plain = [one for one in types if one is not DeferredToolRequests]
        if all(isinstance(one, type) or get_origin(one) is not None for one in plain) and plain:
            made: Any = plain[0]
            for one in plain[1:]:
                made = made | one
            return made
        raise DefinitionError(
            f"agent {self.name!r}: what it gives cannot be read off its output type; say "
            "DurableAgent(agent, output_type=...)"
        )


def _listed(spec: Any) -> list[Any]:
    """The members of an output type."""
    if isinstance(spec, list | tuple):
        return [one for member in spec for one in _listed(member)]
    if DeferredToolRequests in get_args(spec):
        return list(get_args(spec))
    return [spec]
