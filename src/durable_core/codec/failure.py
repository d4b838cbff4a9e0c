"""Exceptions as recorded failures: sanitised, bounded, and never failing on what is raised."""

from __future__ import annotations

import functools
import json
import math
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

from ..kernel.failure import Failure, failure_to_plain

MAX_CAUSES = 5
MAX_FRAMES = 40
MAX_TYPE = 200
MIN_LIMIT = 1_024
CUT = " ...[cut]... "

# Control characters but tab and newline, and the marks that reorder text on a terminal.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def failure_from_exception(
    exc: BaseException,
    *,
    limit: int = 16_384,
    details: Mapping[str, Any] | None = None,
) -> Failure:
    """What is kept of ``exc``: at most ``limit`` bytes when written as JSON (1 KiB at least).

    The message is ``str(exc)``, the traceback leaves out the frames of this library,
    causes go five deep. Never raises, whatever the exception's own methods do.
    """
    limit = max(limit, MIN_LIMIT)
    return _fit(_failure(exc, _facts(details, limit // 4), {id(exc)}, limit), limit)


def _failure(
    exc: BaseException, details: Mapping[str, Any] | None, seen: set[int], limit: int
) -> Failure:
    return Failure(
        type=_type_name(exc),
        message=_message(exc, limit),
        traceback=_traceback(exc, limit),
        cause=_cause(exc, seen, limit),
        details=details,
    )


def clean(text: str, limit: int) -> str:
    """``text`` fit to be stored and shown: control characters escaped, NUL and lone surrogates
    replaced."""
    if str.__len__(text) > limit:
        text = str.__getitem__(text, slice(0, limit)) + CUT
    exact = str.encode(text, "utf-8", "replace").decode("utf-8")
    return _UNSAFE.sub(_escape, exact)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0:
        return "\N{REPLACEMENT CHARACTER}"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _tried(ask: Callable[[], Any]) -> Any:
    """The answer of the exception's own code, or None where that raises anything at all."""
    try:
        return ask()
    except BaseException:
        return None


def _type_name(exc: BaseException) -> str:
    name = _tried(lambda: type(exc).__name__)
    return clean(name, MAX_TYPE) if isinstance(name, str) else "Exception"


def _message(exc: BaseException, limit: int) -> str:
    text = _tried(lambda: str(exc))
    if not isinstance(text, str):
        return "(the exception's message cannot be read: its __str__ raised)"
    message = clean(text, limit)
    parts = _tried(lambda: _parts(exc, limit // 8))
    return f"{message} [{parts}]" if parts else message


def _parts(exc: BaseException, limit: int, depth: int = 2) -> str:
    """The first exceptions of a group, in a line."""
    if not isinstance(exc, BaseExceptionGroup) or depth == 0:
        return ""
    told = []
    for part in tuple(exc.exceptions)[:MAX_CAUSES]:
        text = _tried(functools.partial(str, part))
        inner = _parts(part, limit // 2, depth - 1)
        told.append(
            f"{_type_name(part)}: {clean(text if isinstance(text, str) else '?', limit)}"
            + (f" [{inner}]" if inner else "")
        )
    return "; ".join(told)


def _cause(exc: BaseException, seen: set[int], limit: int) -> Failure | None:
    recorded = _tried(lambda: getattr(exc, "failure", None))
    if isinstance(recorded, Failure):
        return recorded
    cause = _tried(lambda: exc.__cause__)
    if cause is None and not _tried(lambda: exc.__suppress_context__):
        cause = _tried(lambda: exc.__context__)
    if not isinstance(cause, BaseException) or id(cause) in seen or len(seen) > MAX_CAUSES:
        return None
    return _failure(cause, None, seen | {id(cause)}, limit)


def _traceback(exc: BaseException, limit: int) -> str | None:
    text = _tried(lambda: _traceback_text(exc.__traceback__))
    if not isinstance(text, str):
        return None
    return clean(text[-2 * limit :], 2 * limit)


def _traceback_text(tb: TracebackType | None) -> str | None:
    frames = list(traceback.walk_tb(tb))
    if not frames:
        return None
    frames = [found for found in frames if not _is_ours(found[0])] or frames
    omitted = len(frames) - MAX_FRAMES
    if omitted > 0:
        head, frames = frames[:10], frames[10 + omitted :]
        return f"{_frames_text(head)}  ... {omitted} frames left out ...\n{_frames_text(frames)}"
    return _frames_text(frames)


def _frames_text(frames: list[tuple[FrameType, int]]) -> str:
    def walk() -> Iterator[tuple[FrameType, int]]:
        yield from frames

    return "".join(traceback.StackSummary.extract(walk()).format())


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return isinstance(module, str) and module.split(".", 1)[0] == "durable_core"


def _facts(details: Mapping[str, Any] | None, limit: int) -> Mapping[str, Any] | None:
    if details is None:
        return None
    plain = _tried(lambda: _jsonable(details, 8))
    if not isinstance(plain, dict):
        return {"unreadable": True}
    return plain if len(json.dumps(plain, ensure_ascii=False).encode()) <= limit else {"cut": True}


def _jsonable(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or (kind is int and abs(value) < 1 << 63):
        return value
    if kind is float and math.isfinite(value):
        return value
    if isinstance(value, str):
        return clean(value, 4_096)
    if depth and isinstance(value, Mapping):
        return {clean(str(k), MAX_TYPE): _jsonable(v, depth - 1) for k, v in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item, depth - 1) for item in value]
    return clean(repr(value), MAX_TYPE)


# --- one bound over the whole ----------------------------------------------------------------


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _fit(failure: Failure, limit: int, depth: int = MAX_CAUSES) -> Failure:
    """``failure`` in at most ``limit`` bytes of JSON: half of what is left goes to each part."""
    if depth == MAX_CAUSES:
        whole = _tried(lambda: _size(failure_to_plain(failure)))
        if whole is not None and whole <= limit and _depth(failure) <= MAX_CAUSES:
            return failure
    room = limit - 80  # the keys and the punctuation
    kind = _clip(failure.type, MAX_TYPE)
    details = failure.details
    room -= _size(kind)
    if details is not None and (_tried(lambda: _size(details)) or limit) > room // 4:
        details = {"cut": True}
    room -= 0 if details is None else _size(details)
    message = _clip(failure.message, room // 2)
    room -= _size(message)
    below = failure.cause if depth > 0 and room > 400 else None
    trace = failure.traceback
    if trace is not None:
        trace = _clip(trace, room // 2 if below is not None else room, tail=True)
        room -= _size(trace)
    cause = None if below is None else _fit(below, room, depth - 1)
    return Failure(type=kind, message=message, traceback=trace, cause=cause, details=details)


def _depth(failure: Failure) -> int:
    depth = 0
    below = failure.cause
    while below is not None:
        depth, below = depth + 1, below.cause
    return depth


def _clip(text: str, room: int, *, tail: bool = False) -> str:
    """At most ``room`` bytes of JSON string; the beginning is kept, or the end with ``tail``."""
    if _size(text) <= room:
        return text
    keep = max(room - len(CUT) - 2, 0)
    part = text[-keep:] if tail else text[:keep]
    while part and _size(part) > keep:
        shorter = min(len(part) - 1, len(part) * keep // _size(part))
        part = part[-shorter:] if tail and shorter else part[:shorter]
    return CUT + part if tail else part + CUT
