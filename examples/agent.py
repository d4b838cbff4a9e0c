"""An agent: model calls and tools are steps, and a human says yes before something is deleted.

It is here twice: a body of code that waits for a signal, and a handler that suspends itself and
is resumed. The model is scripted, so nothing leaves this machine.

Run it: python examples/agent.py
"""

import asyncio
from typing import Any

from durable_core import (
    Engine,
    Retry,
    StepContext,
    Suspend,
    Workflow,
    WorkflowContext,
    step,
    workflow,
)

Message = dict[str, Any]
FILES = {"old.log", "new.log"}


async def model(messages: list[Message]) -> Message:
    """Stands for a real one: it looks, wants to delete what is old, and says what happened."""
    print(f"  model is asked with {len(messages)} messages")
    match len(messages):
        case 1:
            return {"tool": "look", "args": {}}
        case 3:
            return {"tool": "delete", "args": {"name": "old.log"}}
    return {"text": f"Done: {messages[-1]['result']}"}


async def look() -> str:
    return ", ".join(sorted(FILES))


async def delete(name: str) -> str:
    FILES.discard(name)  # doing it twice is doing it once
    return f"{name} is gone"


TOOLS: dict[str, Any] = {"look": look, "delete": delete}
NEED_APPROVAL = {"delete"}

# --- as code, with a signal ------------------------------------------------------------------


@step(retry=Retry(max_attempts=5), timeout=60)
async def ask_model(messages: list[Message]) -> Message:
    return await model(messages)


@step
async def call_tool(name: str, args: dict[str, Any]) -> str:
    return str(await TOOLS[name](**args))


@workflow
async def agent(ctx: WorkflowContext, task: str) -> str:
    messages: list[Message] = [{"user": task}]
    while True:
        said = await ctx.step(ask_model, messages)
        if "text" in said:
            return str(said["text"])
        result = "the user said no"
        if said["tool"] not in NEED_APPROVAL or await ctx.wait_for_signal("approve", bool):
            key = f"call {said['tool']}"  # the journal then tells the calls apart
            result = await ctx.step(call_tool.with_options(key=key), said["tool"], said["args"])
        messages = [*messages, said, {"result": result}]


# --- as a handler that suspends and is resumed -----------------------------------------------
# Its loop is one unit: what it did since its last snapshot, a crash repeats.


async def loop(ctx: StepContext) -> str | Suspend:
    messages: list[Message] = [{"user": ctx.input}]
    allowed: bool | None = None
    if ctx.resumption is not None:  # these messages end in the call that was asked about
        messages, allowed = ctx.resumption.snapshot, ctx.resumption.data
    while True:
        if allowed is None:
            messages.append(await model(messages))
            if "text" in messages[-1]:
                return str(messages[-1]["text"])
            if messages[-1]["tool"] in NEED_APPROVAL:
                return Suspend(messages)
        call = messages[-1]
        result = (
            "the user said no" if allowed is False else await TOOLS[call["tool"]](**call["args"])
        )
        messages.append({"result": result})
        allowed = None


suspending = Workflow("suspending agent", input=str).step("loop", loop)


async def main() -> None:
    async with Engine("sqlite://", [agent, suspending]) as engine, engine.worker():
        run = await engine.start(agent, "tidy up")
        await run.signal("approve", True)
        print(await run.result(timeout=10))

        other = await engine.start(suspending, "tidy up")
        while not (waits := (await other.info()).waiting_for):
            await asyncio.sleep(0.01)
        await other.resume(True, token=waits[0].token)
        print(await other.result(timeout=10))


asyncio.run(main())
