"""Commits: the transitions of held runs, and what became of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from .leases import ClaimedRun, Release
from .messages import DeliverVerdict, InboxRecord, Message
from .runs import EntryRecord, NewRun


@attrs.define(slots=True, kw_only=True)
class Commit:
    """One run's transition; all of it lands, or none.

    Entries continue the journal after ``after_seq`` entries. Messages ``consumed`` leave the
    inbox (deduped ones leave a tombstone). ``children`` are created and ``messages`` delivered
    in the same transaction, whatever their inboxes hold; what cannot be delivered is dropped.
    ``waiting``, ``status``, ``generation`` and ``failure`` (JSON) replace the recorded ones.
    Closing a token makes an open one *stale*; of a used one it stays known what used it.
    With ``finished`` the run has ended: its lease row goes, an outcome stands, open tokens are
    closed. With ``release`` the lease is given up; otherwise the worker keeps it. With ``renews``
    the entries up to ``after_seq`` are removed: the journal begins with those of this commit.
    ``not_before_ms`` is set where time decided: the commit is refused while the store's clock
    shows less, and while a message newer than ``seen`` has come, which should have been heard.
    """

    run_id: str
    epoch: int
    after_seq: int
    status: str
    generation: int
    entries: tuple[EntryRecord, ...] = ()
    consumed: tuple[int, ...] = ()
    seen: int = 0
    children: tuple[NewRun, ...] = ()
    messages: tuple[Message, ...] = ()
    tokens_opened: tuple[str, ...] = ()
    tokens_closed: tuple[str, ...] = ()
    waiting: str | None = None
    failure: str | None = None
    finished: bool = False
    release: Release | None = None
    renews: bool = False
    not_before_ms: int | None = None


class CommitVerdict(enum.Enum):
    """What became of one commit; where several would do, in this order."""

    APPLIED = "applied"
    FENCED = "fenced"
    """The epoch is not the current one, or the run has ended; nothing was written."""
    CONFLICT = "conflict"
    """The journal does not end at ``after_seq``; nothing was written."""
    EARLY = "early"
    """It is not ``not_before_ms`` yet; nothing was written."""
    UNHEARD = "unheard"
    """It is, but a message newer than ``seen`` has come; nothing was written."""


@attrs.frozen(slots=True, kw_only=True)
class CommitResult:
    """Verdicts in the order of the commits, and unseen messages of runs still held."""

    verdicts: tuple[CommitVerdict, ...]
    now_ms: int
    mail: Mapping[str, tuple[InboxRecord, ...]] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class Foreseen:
    """What the sender of a message expects its receiver to make of it: a commit under the epoch,
    and with the message's number, that it will have if nothing has come since the lease of
    ``after_epoch``, the run's last. ``before_ms``: a moment that the message has to come before."""

    commit: Commit
    after_epoch: int
    before_ms: int | None = None

    def fits(self, epoch: int, now_ms: int) -> bool:
        """Whether it can be true of a run whose last lease was that of ``epoch``."""
        in_time = self.before_ms is None or now_ms < self.before_ms
        return epoch == self.after_epoch and in_time

    @property
    def run_id(self) -> str:
        """The receiver."""
        return self.commit.run_id


@attrs.frozen(slots=True, kw_only=True)
class Delivery:
    """Messages that were delivered, a verdict for each, and those of their runs that were claimed
    in the same moment, best first.

    ``foreseen``: the verdict on the commit that came with them, None where there was none. If it
    was applied, its run is as that left it, and is not among ``runs``.
    """

    verdicts: tuple[DeliverVerdict, ...]
    runs: tuple[ClaimedRun, ...]
    now_ms: int
    foreseen: CommitVerdict | None = None
