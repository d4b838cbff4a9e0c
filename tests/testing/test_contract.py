"""A store of somebody else's: it subclasses the contract, says what it lacks, and is held to the
rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

THEIRS = """
from contextlib import asynccontextmanager

from hypothesis import HealthCheck, Phase, settings

from durable_core.testing import MemoryStore, StoreAgreement, StoreContract


class TheirStore(MemoryStore):
    def transaction(self, lease):
        raise NotImplementedError

    {broken}


class TestTheirStore(StoreContract):
    lacks = {lacks}

    @asynccontextmanager
    async def make_store(self, clock, folder):
        store = TheirStore(clock=clock)
        await store.open()
        yield store
        await store.close()


class TheirAgreement(StoreAgreement):
    lacks = {lacks}
    make_stores = (lambda clock: TheirStore(clock=clock),)


TestAgreement = TheirAgreement.TestCase
TestAgreement.settings = settings(
    max_examples=20,
    stateful_step_count=12,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""
LACKS = {"transaction": "it keeps documents"}
FORGETS = """
    async def renew(self, leases, *, lease_ms):
        result = await super().renew(leases, lease_ms=lease_ms)
        return type(result)(lost=frozenset(), mail=result.mail, now_ms=result.now_ms)
"""


def held_to_it(folder: Path, *, broken: str = "", lacks: dict[str, str] = LACKS) -> str:
    """What pytest says of the store."""
    path = folder / "test_theirs.py"
    path.write_text(THEIRS.format(broken=broken.strip(), lacks=lacks))
    words = ["-q", "-ra", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "1"},
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_a_store_lacks_is_skipped_with_the_reason(tmp_path: Path) -> None:
    said = held_to_it(tmp_path)
    assert "failed" not in said and "error" not in said, said
    assert "the store has no transaction: it keeps documents" in said
    counts = re.search(r"(\d+) passed, (\d+) skipped", said)
    assert counts is not None and int(counts[1]) > 50 and int(counts[2]) == 5, said


@pytest.mark.parametrize("name", ["test_a_transaction_commits_the_transition", "TestAgreement"])
def test_what_it_does_not_say_it_lacks_fails(tmp_path: Path, name: str) -> None:
    assert re.search(f"FAILED .*{name}", held_to_it(tmp_path, lacks={}))


def test_a_store_that_breaks_a_rule_fails_contract_and_agreement(tmp_path: Path) -> None:
    said = held_to_it(tmp_path, broken=FORGETS)
    assert re.search("FAILED .*TestTheirStore", said) and "TestAgreement" in said


def test_only_what_is_optional_can_be_lacking(tmp_path: Path) -> None:
    said = held_to_it(tmp_path, lacks={"commit": "it only reads"})
    assert "lacks names ['commit']" in said
