"""A model that follows a script, and counts what it was asked."""

from __future__ import annotations

from collections.abc import Callable

from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

Line = ModelResponse | Callable[[list[ModelMessage]], ModelResponse]


class Script:
    """The n-th request of a conversation gets the n-th line; by n, how often that was asked."""

    def __init__(self, *lines: Line) -> None:
        self.lines = lines
        self.asked: list[int] = []
        self.model = FunctionModel(self._say, model_name="script")

    async def _say(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(message, ModelResponse) for message in messages)
        self.asked.append(number)
        line = self.lines[number]
        return line if isinstance(line, ModelResponse) else line(messages)


def says(text: str) -> ModelResponse:
    """The model says something."""
    return ModelResponse(parts=[TextPart(text)])


def calls(*wanted: tuple[str, str, dict[str, object]]) -> ModelResponse:
    """The model wants tools called: their call ids, names and arguments."""
    return ModelResponse(parts=[ToolCallPart(tool, args, id_) for id_, tool, args in wanted])


def heard(messages: list[ModelMessage]) -> ModelResponse:
    """The model repeats what it was told last."""
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    return says(" | ".join(str(getattr(part, "content", part)) for part in last.parts))
