"""Workflows as their authors write them, and as the kernel runs them; pure.

``Workflow`` declares, ``lower`` makes it a program for the kernel, and ``Invocation`` is what the
engine calls. A second front end only has to provide another ``Definition``.
"""

from __future__ import annotations

from .coded import workflow
from .context import StepContext
from .definition import Workflow
from .diagram import Graph, Link, Part
from .invocation import Invocation, UnitScope
from .nodes import RUN_INPUT, SKIP, Branch, Undo
from .pending import TIMED_OUT, Pending
from .registry import ChildLink, Definition, Lowering, Registry, input_digest
from .results import Results, result_of_run, view
from .step_scope import current_step
from .steps import Step, step
from .suspend import Resumption, Suspend
from .workflow_context import ChildHandle, WorkflowContext

__all__ = [
    "RUN_INPUT",
    "SKIP",
    "TIMED_OUT",
    "Branch",
    "ChildHandle",
    "ChildLink",
    "Definition",
    "Graph",
    "Invocation",
    "Link",
    "Lowering",
    "Part",
    "Pending",
    "Registry",
    "Results",
    "Resumption",
    "Step",
    "StepContext",
    "Suspend",
    "Undo",
    "UnitScope",
    "Workflow",
    "WorkflowContext",
    "current_step",
    "input_digest",
    "result_of_run",
    "step",
    "view",
    "workflow",
]
