"""Adopting: from a claimed run, as the store gave it, to one that can be advanced.

What is wrong with one run must not keep the others of its claim from being adopted, so for each
trouble there is a commit that ends the claim.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..kernel.program import ProgramFactory
from ..kernel.transition import Held
from ..store import ClaimedRun, Commit, EntryRecord, Store
from .mapping import hand_back_unused, journal_of, newest, run_context
from .shared import Shared

GIVEN_BACK_MS = 1_000
"""When a claimed run that could not be read, for whatever reason, is tried again."""


async def opened(
    claimed: ClaimedRun, shared: Shared, programs: Mapping[tuple[str, str], ProgramFactory]
) -> Held:
    """The run with its whole journal and its program, if that is known here.

    Raises ``StoreUnavailableError``, and another ``DurableError`` for what cannot be read.
    """
    record = claimed.run
    definition = shared.registry.find(record.workflow, record.version)
    entries = await _whole_journal(claimed, shared.store)
    return Held(
        run_context(record, shared.limits),
        programs.get((record.workflow, record.version)),
        journal_of(entries),
        fingerprint=None if definition is None else definition.fingerprint,
    )


async def _whole_journal(claimed: ClaimedRun, store: Store) -> list[EntryRecord]:
    entries = list(claimed.entries)
    last = entries[-1].seq if entries else 0
    while last < claimed.run.entry_count:
        page = await store.journal(claimed.run.run_id, after_seq=last)
        if not page:
            break  # the fold says what is missing
        entries += page
        last = page[-1].seq
    return entries


def given_back(claimed: ClaimedRun, now_ms: int) -> Commit:
    """Undoes the claim: the run is due again in a moment, here or elsewhere."""
    seen = newest(claimed.inbox, 0)
    return hand_back_unused(claimed.run, seen=seen, now_ms=now_ms + GIVEN_BACK_MS)
