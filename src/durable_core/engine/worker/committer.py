"""Committer: gathers the commits of many runs into one store call.

While one batch is being written the next one gathers, so nothing waits for company and nothing
is written alone under load. Rules:

1. A commit is submitted once and answered once: with the store's verdict, or with ``None`` when
   it could not be written; then its run is dropped, and whoever claims it next goes on.
2. After an unknown outcome the store is asked which commits landed, as often as it takes; only
   those that certainly did not are sent again.
3. What was certainly not written is tried again with growing pauses, while leases last.
4. A batch that fails for a reason of its own is split, until the culprit stands alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from ...errors import DurableError, StoreUnavailableError
from ...store import Commit, CommitVerdict, InboxRecord, Store
from ..clock import Backoff, StoreClock

log = logging.getLogger("durable.committer")

Answer = Callable[[CommitVerdict | None], None]
Mail = Mapping[str, tuple[InboxRecord, ...]]
Epochs = Mapping[str, int]
"""Under which epoch each run was held when its mail was asked for."""

BATCH = 200
"""Commits in one store call, at most."""


class Committer:
    """One writer for all runs of a worker."""

    def __init__(
        self,
        store: Store,
        clock: StoreClock,
        *,
        entropy: Callable[[int], bytes],
        patience_s: float,
        on_mail: Callable[[Mail, Epochs], None],
    ) -> None:
        """``patience_s``: how long an unavailable store is asked again; about a lease."""
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._patience_s = patience_s
        self._on_mail = on_mail
        self._pending: list[tuple[Commit, Answer]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Write this commit soon; ``answer`` is called once, from the event loop. What comes when
        all is over is neither written nor answered."""
        if self._closed:
            return
        self._pending.append((commit, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._flush())

    async def idle(self) -> None:
        """Return once everything submitted so far, and by its answers, is answered."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def close(self, patience_s: float) -> None:
        """Stop, after waiting this long for what is on its way. The rest stays unanswered."""
        self._closed = True
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=patience_s)
            self._pending.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
            verdicts = await self._write([commit for commit, _ in batch])
            for (_, answer), verdict in zip(batch, verdicts, strict=True):
                answer(verdict)
        self._task = None

    async def _write(self, commits: Sequence[Commit]) -> list[CommitVerdict | None]:
        writing = _Writing(commits)
        backoff = Backoff(self._entropy, first_s=0.02, longest_s=1.0)
        give_up_at: float | None = None
        while writing.left:
            try:
                await self._try(writing)
                continue
            except StoreUnavailableError as error:
                failed: Exception = error
                writing.unsure = writing.unsure or error.outcome_unknown
            except Exception as error:
                if writing.unsure:
                    failed = error  # settling is asked again, whatever it says
                else:
                    await self._split(writing, error)
                    break
            now = asyncio.get_running_loop().time()
            give_up_at = give_up_at or now + self._patience_s
            if now >= give_up_at:
                log.warning(
                    "%d commits could not be written (%s); their runs go on when their leases "
                    "have expired",
                    len(writing.left),
                    type(failed).__name__,
                )
                break
            await asyncio.sleep(backoff.next_s())
        return writing.verdicts

    async def _try(self, writing: _Writing) -> None:
        if writing.unsure:
            found = await self._store.settled(writing.commits_left)
            writing.unsure = False
            writing.take(
                # A conflict here means: the lease still holds, and the commit did not land.
                None if verdict is CommitVerdict.CONFLICT else verdict
                for verdict in found
            )
            return
        commits = writing.commits_left
        stamp = self._clock.stamp()
        result = await self._store.commit(commits)
        self._clock.set(result.now_ms, stamp)
        writing.take(result.verdicts)
        if result.mail:
            pairs = zip(commits, result.verdicts, strict=True)
            applied = [commit for commit, verdict in pairs if verdict is CommitVerdict.APPLIED]
            self._on_mail(result.mail, {commit.run_id: commit.epoch for commit in applied})

    async def _split(self, writing: _Writing, error: Exception) -> None:
        left = writing.left
        if len(left) == 1:
            ours = isinstance(error, DurableError)
            log.error(
                "the commit of run %s was refused by the store: %s",
                writing.commits[left[0]].run_id,
                error if ours else f"{type(error).__name__}; please report this",
                exc_info=None if ours else error,
            )
            return
        half = len(left) // 2
        for part in (left[:half], left[half:]):
            for index, verdict in zip(
                part, await self._write([writing.commits[i] for i in part]), strict=True
            ):
                writing.verdicts[index] = verdict


class _Writing:
    """A batch on its way: the verdicts so far, and whose are missing."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self.commits = commits
        self.verdicts: list[CommitVerdict | None] = [None] * len(commits)
        self.left = list(range(len(commits)))
        self.unsure = False

    @property
    def commits_left(self) -> list[Commit]:
        if len(self.left) == len(self.commits):
            return list(self.commits)
        return [self.commits[index] for index in self.left]

    def take(self, verdicts: Iterable[CommitVerdict | None]) -> None:
        """Verdicts for what was left; None: still to be written."""
        again = []
        for index, verdict in zip(self.left, verdicts, strict=True):
            self.verdicts[index] = verdict
            if verdict is None:
                again.append(index)
        self.left = again
