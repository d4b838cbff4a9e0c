"""Committer: gathers the commits of many runs into one store call.

While one batch is being written the next one gathers, so nothing waits for company and nothing
is written alone under load. Rules:

1. A commit is submitted once and answered once, with the store's verdict, or with ``None`` when
   it could not be written: then its run is dropped, and whoever claims it next continues.
2. After an unknown outcome the store is asked which commits landed; only those that did not are
   sent again. A commit says after which entry it stands, so it can never land twice.
3. A batch that fails for a reason of its own is split, until the culprit stands alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from ..errors import DurableError, StoreUnavailableError
from ..store import Commit, CommitVerdict, InboxRecord, Store
from .clock import StoreClock

log = logging.getLogger("durable.committer")

Answer = Callable[[CommitVerdict | None], None]
BATCH = 200
"""Commits in one store call, at most."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0


class Committer:
    """One writer for all runs of a worker."""

    def __init__(
        self,
        store: Store,
        clock: StoreClock,
        *,
        patience_s: float,
        on_mail: Callable[[Mapping[str, tuple[InboxRecord, ...]]], None],
    ) -> None:
        """``patience_s``: how long an unavailable store is asked again (about a lease)."""
        self._store = store
        self._clock = clock
        self._patience_s = patience_s
        self._on_mail = on_mail
        self._pending: list[tuple[Commit, Answer]] = []
        self._task: asyncio.Task[None] | None = None

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Write this commit soon; ``answer`` is called once, from the event loop."""
        self._pending.append((commit, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._flush())

    async def idle(self) -> None:
        """Return once everything submitted so far, and by the answers, is answered."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                verdicts = await self._write([commit for commit, _ in batch])
                for (_, answer), verdict in zip(batch, verdicts, strict=True):
                    answer(verdict)
        finally:
            self._task = None

    async def _write(self, commits: Sequence[Commit]) -> list[CommitVerdict | None]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        pause_s = FIRST_PAUSE_S
        verdicts: dict[int, CommitVerdict] = {}
        left = list(range(len(commits)))
        while left:
            try:
                result = await self._store.commit([commits[i] for i in left])
            except StoreUnavailableError as error:
                if loop.time() >= give_up_at:
                    log.warning(
                        "%d commits given up, their runs will be recovered: %s", len(left), error
                    )
                    break
                if error.outcome_unknown:
                    left = await self._settle(commits, left, verdicts)
            except Exception as error:
                return await self._split(commits, left, verdicts, error)
            else:
                self._clock.set(result.now_ms)
                verdicts.update(zip(left, result.verdicts, strict=True))
                if result.mail:
                    self._on_mail(result.mail)
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        return [verdicts.get(i) for i in range(len(commits))]

    async def _settle(
        self, commits: Sequence[Commit], left: list[int], verdicts: dict[int, CommitVerdict]
    ) -> list[int]:
        """Ask which of them landed; gives those that are still to be written."""
        try:
            found = await self._store.settled([commits[i] for i in left])
        except StoreUnavailableError:
            return left  # sending one again that landed is refused by its place in the journal
        again = []
        for i, verdict in zip(left, found, strict=True):
            if verdict is CommitVerdict.APPLIED:
                verdicts[i] = verdict
            else:
                again.append(i)
        return again

    async def _split(
        self,
        commits: Sequence[Commit],
        left: list[int],
        verdicts: dict[int, CommitVerdict],
        error: Exception,
    ) -> list[CommitVerdict | None]:
        if len(left) == 1:
            known = isinstance(error, DurableError)
            log.error(
                "the commit of run %s was refused by the store (%s): %s",
                commits[left[0]].run_id,
                type(error).__name__,
                error if known else "a fault of this library; please report it",
                exc_info=None if known else error,
            )
        else:
            half = len(left) // 2
            for part in (left[:half], left[half:]):
                for i, verdict in zip(
                    part, await self._write([commits[i] for i in part]), strict=True
                ):
                    if verdict is not None:
                        verdicts[i] = verdict
        return [verdicts.get(i) for i in range(len(commits))]
