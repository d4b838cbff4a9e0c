"""Names: what a workflow, a step, an entry, a route key or a signal may be called.

Names become segments of unit paths (``check/fraud``, ``pick/3``), columns of a database and
words in error messages. The rules stand here once; every refusal says who is named so, where,
and how to mend it.
"""

from __future__ import annotations

import enum
from typing import NoReturn

from ..errors import DefinitionError
from ..kernel.limits import NAME_LENGTH

RESERVED = {"/": "it separates the parts of a unit's path", "#": "it is kept for numbered keys"}
RESERVED_PREFIXES = ("__", "$")
SPARE = {"names": "say the same with letters, digits, '-', '_', '.' or ':'"}


def refuse(where: str, problem: str) -> NoReturn:
    """Raise the ``DefinitionError`` of this place: where, what is wrong, and the mend."""
    raise DefinitionError(f"{where}: {problem}")


def check_name(name: object, *, what: str, where: str) -> str:
    """``name`` if it may be one. ``what`` is e.g. ``the name of the step``."""
    text = _check_text(name, what=what, where=where)
    for char, why in RESERVED.items():
        if char in text:
            refuse(where, f"{what}, {text!r}, contains {char!r}, but {why}; {SPARE['names']}")
    for prefix in RESERVED_PREFIXES:
        if text.startswith(prefix):
            refuse(
                where,
                f"{what}, {text!r}, begins with {prefix!r}, which is kept for the library; "
                f"choose another beginning",
            )
    return text


def check_key(key: object, *, where: str) -> str:
    """A route key: a string, or an enum member whose value is one."""
    value = key.value if isinstance(key, enum.Enum) else key
    return check_name(value, what="a route key", where=where)


def check_label(label: object, *, what: str, where: str) -> str:
    """Text that is no part of a path: a version, a signal's name. Any printable text will do."""
    return _check_text(label, what=what, where=where)


def signal_name_problem(name: object, limit: int = NAME_LENGTH) -> str | None:
    """Why this cannot be a signal's name, or None."""
    return _text_problem(name, limit)


def _check_text(text: object, *, what: str, where: str) -> str:
    problem = _text_problem(text, NAME_LENGTH)
    if problem is not None:
        refuse(where, f"{what} {problem}")
    return str(text)


def _text_problem(text: object, limit: int) -> str | None:
    if not isinstance(text, str):
        return f"must be a string, not {type(text).__name__}"
    if not text.strip():
        return "must not be empty"
    if len(text) > limit:
        return f"must have at most {limit} characters, but has {len(text)}; shorten it"
    for char in text:
        point = ord(char)
        if point < 32 or 127 <= point < 160:
            return f"must not contain the control character {char!r}, as {text!r} does; remove it"
        if 0xD800 <= point <= 0xDFFF:
            return f"must not contain the lone surrogate {char!r}, as {text!r} does; remove it"
    return None
