"""Hypothesis profiles: `dev` by default, `ci` (always the same examples) when CI is set."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Ids without addresses, so that every test process collects the same ones."""
    if callable(val):
        return str(getattr(val, "__qualname__", type(val).__qualname__))
    return None


# The contract's asserts, which live under src, explain their failures like any test's.
pytest.register_assert_rewrite(
    "durable_core.testing.agreement",
    "durable_core.testing.contract_eager",
    "durable_core.testing.contract_foreseen",
    "durable_core.testing.contract_leases",
    "durable_core.testing.contract_messages",
    "durable_core.testing.contract_retention",
    "durable_core.testing.contract_runs",
    "durable_core.testing.contract_time",
)
