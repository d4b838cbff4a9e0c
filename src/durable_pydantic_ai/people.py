"""People: what an agent waits for from outside, and what they answer.

A tool that needs approval waits for the signal ``approval.<tool call id>`` with an ``Approval``;
one whose result comes from outside waits for ``answer.<tool call id>`` with that result. Both are
plain signals, so whatever can send one, can answer: ``{"approved": true}``.
"""

from __future__ import annotations

from typing import Any

import attrs

from durable_core import Run


@attrs.frozen(slots=True)
class Approval:
    """A human's word on a tool call."""

    approved: bool = True
    message: str | None = None
    """For the model, when it was denied."""
    override_args: dict[str, Any] | None = None
    """Other arguments to make the call with."""


@attrs.frozen(slots=True)
class Question:
    """A tool call that waits for somebody."""

    signal: str
    tool: str
    args: Any
    unit: str
    """The unit of the run that waits; another one when the same call waits again."""


async def questions(run: Run[Any]) -> list[Question]:
    """The tool calls of this run that wait for somebody now."""
    waiting = [wait for wait in (await run.info()).waiting_for if wait.kind == "signal"]
    if not waiting:
        return []
    calls: dict[str, Any] = {}
    for entry in await run.journal():
        value = entry.value
        if entry.kind != "unit_completed" or not isinstance(value, dict):
            continue
        for call in value.get("calls") or ():
            for kind in ("approval", "answer"):
                calls[f"{kind}.{call['id']}"] = call
    return [
        Question(name, calls[name]["tool"], calls[name]["args"], wait.unit or name)
        for wait in waiting
        if (name := wait.name) is not None and name in calls
    ]


async def approve(
    run: Run[Any], question: Question, *, override_args: dict[str, Any] | None = None
) -> None:
    """Let the call be made, perhaps with other arguments. Doing it twice is doing it once."""
    await _say(run, question, {"approved": True, "override_args": override_args})


async def deny(run: Run[Any], question: Question, message: str | None = None) -> None:
    """Refuse the call; the model is told so, with this message."""
    await _say(run, question, {"approved": False, "message": message})


async def answer(run: Run[Any], question: Question, value: object) -> None:
    """Give the result of a call that is made elsewhere."""
    await _say(run, question, value)


async def _say(run: Run[Any], question: Question, payload: object) -> None:
    await run.signal(question.signal, payload, dedupe_id=question.unit)
