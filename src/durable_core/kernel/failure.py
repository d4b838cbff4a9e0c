"""Failure: a recorded error as data, never an exception object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Failure:
    """What is kept of an error. ``str()`` is ``type: message``.

    ``type`` is the exception's class name, ``traceback`` the sanitised text or None, ``cause``
    the failure it was raised from, ``details`` a JSON-like mapping of facts (or None).
    """

    type: str
    message: str
    traceback: str | None = None
    cause: Failure | None = None
    details: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def failure_to_plain(failure: Failure) -> dict[str, Any]:
    """A JSON-ready dict; absent parts are left out."""
    plain: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.traceback is not None:
        plain["traceback"] = failure.traceback
    if failure.cause is not None:
        plain["cause"] = failure_to_plain(failure.cause)
    if failure.details is not None:
        plain["details"] = dict(failure.details)
    return plain


def failure_from_plain(plain: Mapping[str, Any]) -> Failure:
    """The inverse of ``failure_to_plain``."""
    cause = plain.get("cause")
    return Failure(
        type=plain["type"],
        message=plain["message"],
        traceback=plain.get("traceback"),
        cause=None if cause is None else failure_from_plain(cause),
        details=plain.get("details"),
    )
