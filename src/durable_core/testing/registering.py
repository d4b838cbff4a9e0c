"""Registering: tells Hypothesis how to draw our types; called when Hypothesis is imported.

It stands in the entry point group ``hypothesis``. The strategies themselves are imported when
one of the types is first asked for.
"""

from __future__ import annotations

from typing import Any

from ..workflow.definition import Workflow
from .plan import Faults


def register() -> None:
    """``st.from_type(Workflow)`` and ``st.from_type(Faults)`` work from now on."""
    from hypothesis import strategies as st

    st.register_type_strategy(Workflow, _workflows)
    st.register_type_strategy(Faults, _schedules)


def _workflows(_: Any) -> Any:
    from .strategies import workflows

    return workflows()


def _schedules(_: Any) -> Any:
    from .strategies import schedules

    return schedules()
