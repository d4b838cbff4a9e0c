"""An agent of pydantic-ai made durable: each model request and each tool call is a step.

Needs the extra: pip install 'durable-core[pydantic-ai,sqlite]'. The model is scripted.

Run it: python examples/pydantic_agent.py
"""

import asyncio

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from durable_core import Engine, Retry, WorkflowContext, current_step, workflow
from durable_pydantic_ai import DurableAgent, approve, questions

SENT: dict[str, str] = {}


async def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stands for a real model: it looks an address up, wants to send a mail, and says so."""
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("find_address", {"name": "Ada"}, "call-1")])
    if len(messages) == 3:
        return ModelResponse(parts=[ToolCallPart("send", {"to": "ada@example.org"}, "call-2")])
    return ModelResponse(parts=[TextPart("I have written to Ada.")])


agent = Agent(FunctionModel(script), name="secretary", instructions="Be brief.")


@agent.tool_plain
async def find_address(name: str) -> str:
    return f"{name.lower()}@example.org"


@agent.tool_plain(requires_approval=True)
async def send(to: str) -> str:
    # The same key in every attempt and after every crash: a mail is sent once.
    SENT[current_step().idempotency_key] = to
    return "sent"


secretary = DurableAgent(agent, retry=Retry(max_attempts=5), timeout=120)


@workflow
async def write(ctx: WorkflowContext, task: str) -> str:
    answer = await secretary.run(ctx, task)
    return answer.output


async def main() -> None:
    async with Engine("sqlite://", [write]) as engine, engine.worker():
        run = await engine.start(write, "Thank Ada.")
        while not (asked := await questions(run)):
            await asyncio.sleep(0.01)
        print("may it?", asked[0].tool, asked[0].args)
        await approve(run, asked[0])
        print(await run.result(timeout=10))
        for entry in await run.journal():
            print(entry.seq, entry.kind, entry.unit)


asyncio.run(main())
