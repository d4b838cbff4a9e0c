"""Workflows as their authors write them, and as the kernel runs them; pure.

``Workflow`` declares, ``lower`` makes it a program for the kernel, and ``Invocation`` is what the
engine calls. A second front end only has to provide another ``Definition``.
"""

from __future__ import annotations

from .context import StepContext
from .definition import Workflow
from .diagram import Graph, Link, Part
from .invocation import Invocation, UnitScope
from .nodes import RUN_INPUT, SKIP, Branch, Undo
from .registry import ChildLink, Definition, Lowering, Registry, input_digest
from .results import Results, result_of_run, view
from .suspend import Resumption, Suspend

__all__ = [
    "RUN_INPUT",
    "SKIP",
    "Branch",
    "ChildLink",
    "Definition",
    "Graph",
    "Invocation",
    "Link",
    "Lowering",
    "Part",
    "Registry",
    "Results",
    "Resumption",
    "StepContext",
    "Suspend",
    "Undo",
    "UnitScope",
    "Workflow",
    "input_digest",
    "result_of_run",
    "view",
]
