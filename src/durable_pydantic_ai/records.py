"""Records: what the steps of an agent leave in the journal; plain values, no objects of the agent.

Messages are the library's own JSON (``ModelMessagesTypeAdapter``). Only what a step added stands
in its record, so a conversation of n requests takes room for n, not for n times n.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

Json = dict[str, Any]
Waits = Literal["nothing", "approval", "answer"]


@attrs.frozen(slots=True)
class Call:
    """A tool call that the model wants, with arguments that were found to be valid."""

    id: str
    tool: str
    args: Any
    waits: Waits = "nothing"
    """What it needs before it can be made: a human's approval, or an answer from outside."""
    sequential: bool = False
    """Whether it must not run beside others."""

    @property
    def signal(self) -> str:
        """The name of the signal that it waits for."""
        return f"{self.waits}.{self.id}"


@attrs.frozen(slots=True)
class Turn:
    """Where the agent stands after a request, or after a response was looked at."""

    next: Literal["request", "response", "tools", "end"]
    """What is to be done next."""
    keep: int
    """How many messages of the history before are still the same."""
    add: list[Json]
    """The messages that follow those."""
    usage: Json
    """All that was used so far."""
    calls: list[Call] = attrs.field(factory=list)
    """The tool calls to make, at the end too: those beside an output."""
    output: Any = None


@attrs.frozen(slots=True)
class Called:
    """What became of a tool call: parts for the next request, or something to wait for first."""

    parts: list[Json]
    usage: Json
    """What was used by the call alone, e.g. by an agent inside of the tool."""
    waits: Waits = "nothing"


def after(history: list[Json], turn: Turn) -> list[Json]:
    """The history with what the turn added."""
    return [*history[: turn.keep], *turn.add]


def answered(history: list[Json], parts: list[Json], request: Json) -> list[Json]:
    """The history with a last request that answers the tool calls of its last response.

    What was found about other calls of that response may stand there already. Answers stand in
    the order of the calls; what tools show to the model as a user comes last.
    """
    if history and history[-1]["kind"] == "request":
        history, request = history[:-1], history[-1]
        parts = [*request["parts"], *parts]
    wanted = [part.get("tool_call_id") for part in history[-1]["parts"]]

    def place(part: Json) -> int:
        id_ = part.get("tool_call_id")
        return wanted.index(id_) if id_ is not None and id_ in wanted else len(wanted)

    return [*history, {**request, "parts": sorted(parts, key=place)}]
