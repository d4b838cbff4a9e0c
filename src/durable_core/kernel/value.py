"""Payload: a value as the kernel sees it, encoded and opaque.

The kernel moves payloads and never looks inside, so that a value is the same on the first
pass, on replay and on every store: whoever reads one decodes the very bytes that are stored.
"""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True, weakref_slot=False)
class Payload:
    """Encoded bytes and the name of their encoding, e.g. ``json`` or ``json+zlib``."""

    data: bytes
    encoding: str = "json"


NULL = Payload(b"null", "json")
"""The encoded ``None``; every codec reads the plain ``json`` encoding."""
