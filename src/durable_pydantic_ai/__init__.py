"""Agents of pydantic-ai as durable code: each model request and each tool call is a step.

Needs the extra ``pydantic-ai``; uses that library's public interface only.
"""

from .agent import Answer, DurableAgent
from .people import Question, answer, approve, deny, questions

__all__ = ["Answer", "DurableAgent", "Question", "answer", "approve", "deny", "questions"]
