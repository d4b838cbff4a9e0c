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

Two things are optional: ``transaction``, which only transactional steps need, and ``prune``. A
store that cannot do one says why, and its tests are skipped with that reason::

        lacks = {"transaction": "the server has none over several documents"}

The tests are coroutines: run them with pytest-asyncio in mode ``auto``. For failures that show
the values they compare, register ``durable_core.testing.contract_eager``, ``_foreseen``,
``_leases``, ``_messages``, ``_retention``, ``_runs`` and ``_time`` with
``pytest.register_assert_rewrite`` in a ``conftest.py``.
"""

from __future__ import annotations

from .contract_eager import EagerContract
from .contract_foreseen import ForeseenContract
from .contract_leases import ClaimContract, CommitContract
from .contract_messages import MessageContract
from .contract_retention import RetentionContract
from .contract_runs import RunContract
from .contract_time import TimeContract
from .virtual_clock import VirtualClock

__all__ = ["VirtualClock", "StoreContract"]


class StoreContract(
    RunContract,
    ClaimContract,
    CommitContract,
    TimeContract,
    MessageContract,
    EagerContract,
    ForeseenContract,
    RetentionContract,
):
    """All parts of the contract."""
