"""Messages on their way into an inbox, in it, and what became of them."""

from __future__ import annotations

import enum
import hashlib

import attrs

from ..kernel.value import Payload


@attrs.frozen(slots=True, kw_only=True)
class Message:
    """Something to put into a run's inbox: signal, resume, cancel, child's end, and so on.

    ``dedupe``: a second message of the same run with the same key changes nothing.
    ``token``: the message is accepted only once, only while that suspension token is open.
    ``reopens``: may be delivered to an ended run, which becomes live again (``retry``, rollback
    of a completed child). A run opened again is ``pending``, due at once, its generation as it
    was, ``waiting`` and ``failure`` None. ``anyone``: any worker may claim the run for it, whatever
    its queue, known workflow or not; the run's next claim, by whomever, ends that. Any message
    lifts the ``pin`` of a live run.
    """

    run_id: str
    kind: str
    name: str = ""
    payload: Payload | None = None
    meta: str | None = None
    dedupe: str | None = None
    token: str | None = None
    reopens: bool = False
    anyone: bool = False


@attrs.frozen(slots=True, kw_only=True)
class InboxRecord:
    """A message that arrived and is not yet consumed; ``seq`` is its arrival number."""

    seq: int
    kind: str
    name: str
    at_ms: int
    payload: Payload | None = None
    meta: str | None = None


def payload_digest(payload: Payload | None) -> str:
    """What a store keeps of the payload that used a token; equal payloads have equal digests."""
    if payload is None:
        return "none"
    digest = hashlib.blake2b(digest_size=16)
    digest.update(payload.encoding.encode("utf-8", "surrogatepass"))
    digest.update(b"\x00")
    digest.update(payload.data)
    return digest.hexdigest()


class DeliverVerdict(enum.Enum):
    """What became of one message; where several would do, *unknown*, *duplicate* or *conflict*,
    *finished*, *stale*, *full* stand in this order."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    """Its ``dedupe`` or ``token`` was used before, by an equal message or any deduped one."""
    CONFLICT = "conflict"
    """Its ``token`` was used before by a message with another payload."""
    STALE = "stale"
    """Its ``token`` is not one of the run's."""
    FINISHED = "finished"
    UNKNOWN = "unknown"
    FULL = "full"
    """The inbox holds ``inbox_limit`` messages already."""
