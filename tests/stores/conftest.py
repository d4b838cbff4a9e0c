"""The contract's asserts, which live under src, explain their failures like any test's."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "durable_core.testing.agreement",
    "durable_core.testing.contract_leases",
    "durable_core.testing.contract_messages",
    "durable_core.testing.contract_runs",
)
