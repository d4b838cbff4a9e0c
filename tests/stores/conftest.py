"""Tests of the Postgres adapter get a place of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.stores.pg_kit import Place, own_place


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A schema with a table of the user's, dropped after the test."""
    async with own_place() as place:
        yield place
