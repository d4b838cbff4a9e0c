"""StoreContract: what every store must do, as a pytest class to inherit from.

An adapter's test file holds one subclass that says how its store is made::

    class TestMyStore(StoreContract):
        @asynccontextmanager
        async def make_store(self, clock, folder):
            store = MyStore(folder / "test.db", clock=clock)
            await store.open()
            try:
                yield store
            finally:
                await store.close()

The tests are coroutines: run them with pytest-asyncio in mode ``auto``.
"""

from __future__ import annotations

import pytest

for _part in ("contract_kit", "contract_leases", "contract_messages", "contract_runs"):
    pytest.register_assert_rewrite(f"{__package__}.{_part}")  # for failures that explain

from .contract_kit import HandClock  # noqa: E402
from .contract_leases import ClaimContract, CommitContract  # noqa: E402
from .contract_messages import MessageContract  # noqa: E402
from .contract_runs import RunContract  # noqa: E402

__all__ = ["HandClock", "StoreContract"]


class StoreContract(RunContract, ClaimContract, CommitContract, MessageContract):
    """All parts of the contract."""
