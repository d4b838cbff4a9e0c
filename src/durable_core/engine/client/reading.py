"""Reading: what can be asked of runs without changing them, and waiting for their ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import attrs

from ...codec.records import failure_from_text
from ...errors import RunNotFoundError
from ...kernel import explain as explaining
from ...kernel.explain import Explanation
from ...kernel.journal import Journal
from ...kernel.run import RunStatus
from ...store import EntryRecord, RunFilter, RunRecord
from .. import arguments
from ..mapping import journal_of
from ..owner import name_of
from ..shared import Shared
from ..waiting import Completed, Ends
from .exporting import RunExport, exported
from .info import JournalEntry, Reader, RunInfo, run_cancelled, run_failed, waits_of
from .retrying import retrying
from .run import Timeout

T = TypeVar("T")

JOURNAL_PAGE = 1_000
SHORT_JOURNAL = 10
"""Entries that are read in one call rather than the last one first."""
LIST_PAGE = 100


class Reading:
    """The verbs that only look."""

    _shared: Shared
    _ends: Ends
    _reader: Reader

    def _check(self) -> Shared:
        """What is shared, if the engine may be used here and now."""
        raise NotImplementedError

    # --- reading -------------------------------------------------------------------------------

    async def get(self, run_id: str) -> RunInfo:
        """The run as it stands. Raises ``RunNotFoundError``."""
        self._check()
        record = await self._record(self._run_id(run_id))
        result = None
        if record.status == RunStatus.COMPLETED.value:
            result = await self._result(record)
        return self._reader.info(record, result)

    async def runs(
        self,
        *,
        status: str | Iterable[str] | None = None,
        workflow: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> AsyncIterator[RunInfo]:
        """Runs, newest first; ``status`` is one or several, ``since`` when they were created.

        ``after``: (``created_at``, ``id``) of the run to go on behind. Results are left out.
        """
        shared = self._check()
        if limit is not None:
            limit = arguments.whole(limit, what="limit", least=0, most=1 << 31)
        query = RunFilter(
            statuses=arguments.statuses(status),
            workflow=arguments.optional_text(
                getattr(workflow, "name", workflow), what="workflow", limit=shared.limits.name
            ),
            attributes=arguments.attributes(attributes, limit=shared.limits.name),
            since_ms=None if since is None else arguments.moment_ms(since, what="since"),
            after=None if after is None else arguments.cursor(after, limit=shared.limits.name),
        )
        left = limit
        while left is None or left > 0:
            size = LIST_PAGE if left is None else min(LIST_PAGE, left)
            page = await self._read(partial(shared.store.find, attrs.evolve(query, limit=size)))
            for record in page:
                yield self._reader.info(record)
            if len(page) < size:
                return
            left = None if left is None else left - size
            query = attrs.evolve(query, after=(page[-1].created_at_ms, page[-1].run_id))

    async def journal(self, run_id: str) -> tuple[JournalEntry, ...]:
        """Everything that has happened to the run, in commit order. Raises ``RunNotFoundError``,
        and ``EncodingError`` for what cannot be read here."""
        self._check()
        record = await self._record(self._run_id(run_id))
        return self._reader.journal(record, await self._entries(record))

    async def export(self, run_id: str) -> RunExport:
        """The run with its journal as it is stored, to be replayed elsewhere (``replay`` of
        ``durable_core.testing``). Raises ``RunNotFoundError``."""
        self._check()
        record = await self._record(self._run_id(run_id))
        return exported(record, await self._records(record))

    async def explain(self, run_id: str) -> Explanation:
        """What the run waits for, since when, and who must act. Raises ``RunNotFoundError``."""
        shared = self._check()
        record = await self._record(self._run_id(run_id))
        return explaining.explain(
            run_id=record.run_id,
            workflow=record.workflow,
            status=RunStatus(record.status),
            waits=waits_of(record),
            failure=None if record.failure is None else failure_from_text(record.failure),
            now_ms=await shared.store.now_ms(),
            since_ms=record.updated_at_ms,
            owner=None if record.owner is None else name_of(record.owner),
            due_at_ms=record.due_at_ms,
        )

    # --- the end of a run ----------------------------------------------------------------------

    async def result_of(self, run_id: str, timeout: Timeout = None) -> Any:
        """The run's result when it has ended; see ``Run.result``."""
        self._check()
        timeout_s = arguments.seconds(timeout, what="timeout")
        record = await self._ends.wait_for_result(self._run_id(run_id), timeout_s)
        if isinstance(record, Completed):
            return self._reader.result(record.run, record.entries)
        status = RunStatus(record.status)
        if status is RunStatus.COMPLETED:
            return await self._result(record)
        if status is RunStatus.CANCELLED:
            raise run_cancelled(record, journal_of(await self._last_entry(record)))
        raise run_failed(record, await self._entries(record))

    async def end_of(self, run_id: str, timeout: Timeout = None) -> RunInfo:
        """The run when it has ended; see ``Run.wait``."""
        self._check()
        timeout_s = arguments.seconds(timeout, what="timeout")
        record = await self._ends.wait(self._run_id(run_id), timeout_s)
        result = None
        if record.status == RunStatus.COMPLETED.value:
            result = await self._result(record)
        return self._reader.info(record, result)

    async def _result(self, record: RunRecord) -> Any:
        """The last entry may say it all; a view over the journal needs the whole, and where that
        is short, asking twice costs more than it saves."""
        if record.entry_count > SHORT_JOURNAL:
            last = await self._last_entry(record)
            if last and last[0].payload is not None:
                return self._reader.result(record, journal_of(last))
        return self._reader.result(record, await self._entries(record))

    async def _last_entry(self, record: RunRecord) -> tuple[EntryRecord, ...]:
        return await self._page(record.run_id, record.entry_count - 1, 1)

    async def _entries(self, record: RunRecord) -> Journal:
        return journal_of(await self._records(record))

    async def _records(self, record: RunRecord) -> list[EntryRecord]:
        found: list[EntryRecord] = []
        while True:
            last = found[-1].seq if found else 0
            page = await self._page(record.run_id, last, JOURNAL_PAGE)
            found += page
            if len(page) < JOURNAL_PAGE:
                return found

    async def _record(self, run_id: str) -> RunRecord:
        record = await self._find(run_id)
        if record is None:
            raise not_found(run_id)
        return record

    async def _find(self, run_id: str) -> RunRecord | None:
        return (await self._read(partial(self._shared.store.get, [run_id]))).get(run_id)

    async def _page(self, run_id: str, after_seq: int, limit: int) -> tuple[EntryRecord, ...]:
        store = self._shared.store
        return await self._read(partial(store.journal, run_id, after_seq=after_seq, limit=limit))

    async def _read(self, verb: Callable[[], Awaitable[T]]) -> T:
        return await retrying(verb, self._shared.host.entropy)

    def _run_id(self, run_id: object) -> str:
        return arguments.text(run_id, what="run_id", limit=self._shared.limits.name)


def not_found(run_id: str) -> RunNotFoundError:
    return RunNotFoundError(f"no run has the id {run_id!r}")
