"""Run: a handle on one run, and the verbs that go with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from ...kernel.explain import Explanation
from .info import JournalEntry, RunInfo

ResultT_co = TypeVar("ResultT_co", covariant=True)
Timeout = timedelta | float | None


class Verbs(Protocol):
    """What a handle needs of its engine; see ``Engine`` for each."""

    async def get(self, run_id: str) -> RunInfo:
        """The run as it stands."""
        ...

    async def signal(
        self, run_id: str, name: str, payload: Any = None, *, dedupe_id: str | None = None,
        conn: Any = None,
    ) -> None:  # fmt: skip
        """Send a signal."""
        ...

    async def resume(self, run_id: str, data: Any = None, *, token: str | None = None) -> None:
        """Resume a suspension."""
        ...

    async def cancel(
        self, run_id: str, *, mode: str = "compensate", reason: str | None = None, conn: Any = None
    ) -> None:
        """Cancel the run."""
        ...

    async def journal(self, run_id: str) -> tuple[JournalEntry, ...]:
        """The whole journal."""
        ...

    async def explain(self, run_id: str) -> Explanation:
        """Why the run is where it is."""
        ...

    async def result_of(self, run_id: str, timeout: Timeout = None) -> Any:
        """The run's result."""
        ...

    async def end_of(self, run_id: str, timeout: Timeout = None) -> RunInfo:
        """The run when it has ended."""
        ...


class Run(Generic[ResultT_co]):
    """A handle on a run; making one does no IO. Equal handles are handles on equal ids."""

    __slots__ = ("_verbs", "id")

    def __init__(self, run_id: str, verbs: Verbs) -> None:
        self.id = run_id
        self._verbs = verbs

    def __repr__(self) -> str:
        return f"<Run {self.id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id and other._verbs is self._verbs

    def __hash__(self) -> int:
        return hash(self.id)

    async def info(self) -> RunInfo:
        """The run as it stands. Raises ``RunNotFoundError``."""
        return await self._verbs.get(self.id)

    async def status(self) -> str:
        """Its status. Raises ``RunNotFoundError``."""
        return (await self._verbs.get(self.id)).status

    async def result(self, *, timeout: Timeout = None) -> ResultT_co:
        """The run's result, when it has ended; ``timeout`` is a timedelta or seconds.

        Raises ``RunFailed``, ``RunCancelled``, ``TimeoutError`` (the run goes on),
        ``RunNotFoundError``.
        """
        result: ResultT_co = await self._verbs.result_of(self.id, timeout)
        return result

    async def wait(self, *, timeout: Timeout = None) -> RunInfo:
        """The run when it has ended, however it did. Raises ``TimeoutError``,
        ``RunNotFoundError``."""
        return await self._verbs.end_of(self.id, timeout)

    async def signal(
        self, name: str, payload: Any = None, *, dedupe_id: str | None = None, conn: Any = None
    ) -> None:
        """Send it a signal; see ``Engine.signal``."""
        await self._verbs.signal(self.id, name, payload, dedupe_id=dedupe_id, conn=conn)

    async def resume(self, data: Any = None, *, token: str | None = None) -> None:
        """Resume a suspension; see ``Engine.resume``."""
        await self._verbs.resume(self.id, data, token=token)

    async def cancel(
        self, *, mode: str = "compensate", reason: str | None = None, conn: Any = None
    ) -> None:
        """Cancel it; see ``Engine.cancel``."""
        await self._verbs.cancel(self.id, mode=mode, reason=reason, conn=conn)

    async def journal(self) -> tuple[JournalEntry, ...]:
        """Its journal, in commit order. Raises ``RunNotFoundError``."""
        return await self._verbs.journal(self.id)

    async def explain(self) -> Explanation:
        """Why it is where it is, and who must act. Raises ``RunNotFoundError``."""
        return await self._verbs.explain(self.id)
