"""The comparison with peers runs: ours always, a peer where it is installed, and else says so."""

from __future__ import annotations

import json

import pytest
from benchmarks.bench_peers import Case, Live, Queued
from benchmarks.peer import ENGINES, is_installed
from tests.postgres_kit import MAJORS

from benchmarks import bench_claimers, bench_peers, bench_processes, bench_rings, peer_turns
from durable_core.testing.postgres import NO_POSTGRES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]

CASES: list[Case] = [Live(2, 3, 0.1, repeats=1), Queued(6, 2, 2, repeats=1)]
PEERS = [engine for engine in ENGINES if engine != "ours"]


def test_ours_runs_and_who_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_turns, "is_installed", lambda engine: engine == "ours")
    rows = bench_peers.main(CASES)
    assert [row["case"] for row in rows] == ["2 steps, c=3", "6 queued, 2 steps, 2 processes"]
    assert all(row["ours_runs_per_s"] > 0 for row in rows)
    assert all(row[f"times_{peer}"] is None for row in rows for peer in PEERS)
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["engine"] for line in lines[:2]] == PEERS
    assert all(f"{peer} IS LEFT OUT" in printed.err for peer in PEERS)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_runs_where_it_is_installed(peer: str) -> None:
    if not is_installed(peer):
        pytest.skip(f"{peer} is not installed; it comes with the extra [bench]")
    rows = bench_peers.main(CASES, ("ours", peer))
    assert all(row[f"times_{peer}"] > 0 for row in rows)


def test_more_processes_share_the_work() -> None:
    rows = bench_processes.main((1, 2), 6, 1)
    assert [row["processes"] for row in rows] == [1, 2]
    assert all(row["times_one"] > 0 for row in rows)


def test_claimers_claim_each_run_once() -> None:
    rows = bench_claimers.main((0, 7), (1, 3), 230)
    assert [(row["suspended"], row["claimers"]) for row in rows] == [(0, 1), (0, 3), (7, 1), (7, 3)]
    assert all(row["times_first"] > 0 for row in rows)


def test_rings_and_empty_claims_are_counted() -> None:
    rows = bench_rings.main((1, 2), 0.05)
    assert [(row["what"][:4], row["at_once"]) for row in rows] == [
        *[("ring", 1), ("ring", 2)],
        *[("clai", 1), ("clai", 2)],
    ]
    assert all(row["per_s"] > 0 for row in rows)
