"""Contract, first part: runs are created, read, listed; their journals are read."""

from __future__ import annotations

from typing import Any

import attrs

from ..store import RunFilter, Store
from .contract_kit import (
    StoreFixtures,
    claim_one,
    commit_all,
    entry,
    finish,
    let_go,
    new_run,
    payload,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock


class RunContract(StoreFixtures):
    """create, get, find, journal, now_ms, open, close."""

    async def test_a_new_run_is_pending_and_due_at_once(self, store: Store) -> None:
        new = new_run(
            priority=3,
            parent_id="p",
            parent_unit="spawn",
            depth=2,
            deadline_ms=START_MS + 5_000,
            attributes={"customer": '"c1"', "size": "3"},
        )
        (result,) = await store.create([new])
        assert result.created
        record = result.record
        for name in attrs.fields_dict(type(new)):
            if name not in ("delay_ms", "lease_ms", "entries"):
                assert getattr(record, name) == getattr(new, name), name
        assert (record.status, record.generation, record.epoch) == ("pending", 1, 0)
        assert record.created_at_ms == record.updated_at_ms == record.due_at_ms == START_MS
        unset = (record.finished_at_ms, record.owner, record.pin, record.waiting, record.failure)
        assert set(unset) == {None}
        assert record.entry_count == record.deaths == 0
        assert await store.get(["r1", "nobody"]) == {"r1": record}

    async def test_a_delayed_run_is_due_later(self, store: Store) -> None:
        (result,) = await store.create([new_run(delay_ms=500)])
        assert result.record.due_at_ms == START_MS + 500

    async def test_creating_again_changes_nothing(self, store: Store, clock: VirtualClock) -> None:
        (first,) = await store.create([new_run()])
        clock.forward(10)
        (again,) = await store.create([new_run(digest="other", workflow="other")])
        assert not again.created
        assert again.record == first.record

    async def test_one_call_may_name_a_run_twice(self, store: Store) -> None:
        results = await store.create([new_run(), new_run("r2"), new_run(digest="other")])
        assert [result.created for result in results] == [True, True, False]
        assert results[2].record.digest == "order:1"

    async def test_an_ended_run_is_not_created_again(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [finish()])
        (again,) = await store.create([new_run()])
        assert not again.created
        assert again.record.status == "completed"

    async def test_a_fork_begins_with_the_entries_it_is_given(self, store: Store) -> None:
        entries = (entry(1, payload=payload("1")), entry(2, meta="{}", format=7))
        (result,) = await store.create([new_run(entries=entries)])
        assert result.record.entry_count == 2
        assert await store.journal("r1") == entries
        assert (await claim_one(store)).entries == entries
        await commit_all(store, [step(after_seq=2)])

    async def test_payloads_come_back_as_they_were(self, store: Store) -> None:
        for run_id, data in {"empty": b"", "zeros": b"\x00\xff\x00", "text": b'"\xc3\xa4"'}.items():
            (result,) = await store.create([new_run(run_id, input=payload("0"))])
            assert result.created
            await claim_one(store, run_id)
            value = attrs.evolve(payload("0"), data=data, encoding="json+zlib")
            await commit_all(store, [step(run_id, entries=(entry(1, payload=value),))])
            assert (await store.journal(run_id))[0].payload == value

    async def test_names_are_stored_as_they_are(self, store: Store) -> None:
        odd = "naïve 'quoted\" %s {} \\ \n ; -- 日本 \U0001f600"
        (result,) = await store.create(
            [new_run(odd, workflow=odd, queue=odd, attributes={odd: odd})]
        )
        assert (await store.get([odd]))[odd] == result.record
        assert result.record.attributes == {odd: odd}
        assert await store.find(RunFilter(attributes={odd: odd})) == (result.record,)

    async def test_creating_nothing_is_fine(self, store: Store) -> None:
        assert await store.create([]) == ()
        assert await store.get([]) == {}

    async def test_a_journal_is_read_in_pages(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [step(n=5)])
        assert [e.seq for e in await store.journal("r1", limit=2)] == [1, 2]
        assert [e.seq for e in await store.journal("r1", after_seq=2, limit=2)] == [3, 4]
        assert [e.seq for e in await store.journal("r1", after_seq=4)] == [5]
        assert await store.journal("r1", after_seq=5) == ()
        assert await store.journal("nobody") == ()

    async def test_now_is_the_stores_clock(self, store: Store, clock: VirtualClock) -> None:
        assert await store.now_ms() == START_MS
        clock.forward(7)
        assert await store.now_ms() == START_MS + 7

    async def test_closing_twice_is_fine_and_opening_again_too(self, store: Store) -> None:
        twin = store.twin()
        await twin.open()
        await store.create([new_run()])
        assert set(await twin.get(["r1"])) == {"r1"}
        await twin.close()
        await twin.close()
        await twin.open()
        assert set(await twin.get(["r1"])) == {"r1"}
        await twin.close()

    # --- find --------------------------------------------------------------------------------

    async def _found(self, store: Store, query: RunFilter) -> str:
        return "".join(record.run_id for record in await store.find(query))

    async def test_runs_are_listed_newest_first_in_pages(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in "acb":
            await store.create([new_run(run_id)])
        clock.forward(10)
        await store.create([new_run("e"), new_run("d")])
        assert await self._found(store, RunFilter()) == "edcba"
        first = await store.find(RunFilter(limit=2))
        after = (first[-1].created_at_ms, first[-1].run_id)
        assert await self._found(store, RunFilter(limit=2, after=after)) == "cb"
        assert await self._found(store, RunFilter(after=(START_MS, "b"))) == "a"
        assert await self._found(store, RunFilter(since_ms=START_MS + 1)) == "ed"
        assert await self._found(store, RunFilter(since_ms=START_MS + 11)) == ""

    async def test_runs_are_listed_by_what_they_are(self, store: Store) -> None:
        runs: dict[str, dict[str, Any]] = {
            "a": {"attributes": {"who": '"x"', "n": "1"}},
            "b": {"attributes": {"who": '"x"'}, "parent_id": "a"},
            "c": {"attributes": {"who": '"y"', "n": "1"}, "parent_id": "a", "workflow": "other"},
            "d": {"workflow": "other"},
        }
        for run_id, facts in runs.items():
            await store.create([new_run(run_id, **facts)])
        for query, ids in (
            (RunFilter(workflow="other"), "dc"),
            (RunFilter(parent_id="a"), "cb"),
            (RunFilter(parent_id="a", workflow="other"), "c"),
            (RunFilter(parent_id="z"), ""),
        ):
            assert await self._found(store, query) == ids
        for attributes, ids in (
            ({"who": '"x"'}, "ba"),
            ({"who": '"x"', "n": "1"}, "a"),
            ({"n": "1"}, "ca"),
            ({"n": '"1"'}, ""),
        ):
            assert await self._found(store, RunFilter(attributes=attributes)) == ids
        both = RunFilter(attributes={"who": '"x"'}, parent_id="a", workflow="order")
        assert await self._found(store, both) == "b"

    async def test_runs_are_listed_by_status(self, store: Store, clock: VirtualClock) -> None:
        for run_id in "abcde":
            clock.forward(1)
            await started(store, run_id, attributes={"k": "1"}, parent_id="p")
        await commit_all(
            store,
            [finish("a"), finish("b", status="failed"), let_go("c"), finish("d", status="failed")],
        )
        for statuses, ids in {
            ("completed",): "a",
            ("failed",): "db",
            ("suspended", "failed"): "dcb",
            ("running",): "e",
            ("running", "running", "completed"): "ea",
            (): "",
        }.items():
            assert await self._found(store, RunFilter(statuses=statuses)) == ids
            with_key = RunFilter(statuses=statuses, attributes={"k": "1"})
            assert await self._found(store, with_key) == ids
            assert await self._found(store, RunFilter(statuses=statuses, parent_id="p")) == ids
        paged = RunFilter(statuses=("suspended", "failed"), limit=1, after=(START_MS + 4, "d"))
        assert await self._found(store, paged) == "c"
        recent = RunFilter(statuses=("completed", "failed"), since_ms=START_MS + 2)
        assert await self._found(store, recent) == "db"
