"""Journal entries as store records and back, by a table of what each kind keeps where.

A payload stays a payload, the attempt has its column, and everything else is compact JSON in
``meta`` (None when there is nothing to say). Records of an older format pass through upcasters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ..errors import EncodingError
from ..kernel.failure import Failure, failure_from_plain, failure_to_plain
from ..kernel.ids import UnitKey
from ..kernel.journal import ENTRY_CLASSES, Entry, UnitCompleted
from ..kernel.run import Waiting
from ..kernel.value import Payload
from ..store import EntryRecord

FORMAT = 1
"""The format this library writes; it reads every older one, and refuses newer ones."""

Upcaster = Callable[[EntryRecord], EntryRecord]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""From (kind, format) to a function that gives the record in a later format."""


# --- text ------------------------------------------------------------------------------------

_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=True, separators=(",", ":")
).encode
_dumps_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _to_text(plain: Any, what: str) -> str:
    try:
        text = _dumps(plain)
        try:
            text.encode()
        except UnicodeEncodeError:
            return _dumps_ascii(plain)  # lone surrogates, escaped: any store takes this
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(
            f"{what} holds what JSON cannot: {error}. Facts must be plain JSON values."
        ) from error


def _from_text(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(
            f"{what} is not JSON ({error}): the stored text is damaged, or was not written by "
            "this library."
        ) from error


# --- fields ----------------------------------------------------------------------------------


def payload_to_plain(payload: Payload) -> dict[str, str]:
    """Bytes as text where they are text (plain JSON), else in base 64."""
    plain = {} if payload.encoding == "json" else {"encoding": payload.encoding}
    try:
        plain["text"] = payload.data.decode()
    except UnicodeDecodeError:
        plain["base64"] = base64.b64encode(payload.data).decode("ascii")
    return plain


def payload_from_plain(plain: Mapping[str, str]) -> Payload:
    """The inverse of ``payload_to_plain``."""
    data = plain["text"].encode() if "text" in plain else base64.b64decode(plain["base64"])
    return Payload(data, plain.get("encoding", "json"))


def _verdict_to_plain(verdict: Payload | Failure) -> dict[str, Any]:
    if isinstance(verdict, Failure):
        return {"failure": failure_to_plain(verdict)}
    return {"payload": payload_to_plain(verdict)}


def _verdict_from_plain(plain: Mapping[str, Any]) -> Payload | Failure:
    if "failure" in plain:
        return _failure(plain["failure"])
    return payload_from_plain(plain["payload"])


def _failure(plain: Any) -> Failure:
    failure = failure_from_plain(plain)
    if type(failure.type) is not str or type(failure.message) is not str:
        raise TypeError("a failure's type and message are texts")
    return failure


def _text(plain: Any) -> str:
    if type(plain) is not str:
        raise TypeError(f"expected a text, found {type(plain).__name__}")
    return plain


def _integer(plain: Any) -> int:
    if type(plain) is not int:
        raise TypeError(f"expected an integer, found {type(plain).__name__}")
    return plain


def _boolean(plain: Any) -> bool:
    if type(plain) is not bool:
        raise TypeError(f"expected true or false, found {type(plain).__name__}")
    return plain


def _texts(plain: Any) -> tuple[str, ...]:
    if type(plain) is not list:
        raise TypeError(f"expected a list, found {type(plain).__name__}")
    return tuple(_text(item) for item in plain)


def _mapping(plain: Any) -> dict[str, Any]:
    if type(plain) is not dict:
        raise TypeError(f"expected an object, found {type(plain).__name__}")
    return plain


@attrs.frozen(slots=True)
class _Field:
    """How one field of an entry stands in ``meta``; left out when it equals its default."""

    name: str
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]
    default: Any


@attrs.frozen(slots=True)
class _Layout:
    """What a kind of entry keeps where; ``payload`` None means that it may be absent."""

    cls: type[Entry]
    has_payload: bool
    has_attempt: bool
    payload_optional: bool
    fields: tuple[_Field, ...]


def _same(plain: Any) -> Any:
    return plain


_BY_TYPE: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "str": (_same, _text),
    "int": (_same, _integer),
    "bool": (_same, _boolean),
    "str | None": (_same, _text),
    "int | None": (_same, _integer),
    "Failure": (failure_to_plain, _failure),
    "Failure | None": (failure_to_plain, _failure),
    "tuple[str, ...]": (list, _texts),
    "Payload | Failure | None": (_verdict_to_plain, _verdict_from_plain),
    "Mapping[str, Any] | None": (dict, _mapping),
}

_IN_COLUMNS = {"unit", "seq", "at_ms", "attempt", "payload"}


def _layout(cls: type[Entry]) -> _Layout:
    by_name = attrs.fields_dict(cls)
    return _Layout(
        cls=cls,
        has_payload="payload" in by_name,
        has_attempt="attempt" in by_name,
        payload_optional="payload" in by_name and by_name["payload"].default is None,
        fields=tuple(
            _Field(name, *_BY_TYPE[str(field.type)], field.default)
            for name, field in by_name.items()
            if name not in _IN_COLUMNS
        ),
    )


LAYOUTS: Mapping[str, _Layout] = {kind: _layout(cls) for kind, cls in ENTRY_CLASSES.items()}


# --- entries ---------------------------------------------------------------------------------


def entry_to_record(entry: Entry) -> EntryRecord:
    """The record of ``entry``, in the current format."""
    kind = entry.kind
    if type(entry) is UnitCompleted and entry.verdict is None and entry.name is None:
        # Nearly every entry there is.
        return EntryRecord(
            seq=entry.seq,
            kind=kind,
            unit="/".join(entry.unit),
            attempt=entry.attempt,
            at_ms=entry.at_ms,
            payload=entry.payload,
        )
    layout = LAYOUTS[kind]
    meta = {}
    for field in layout.fields:
        value = getattr(entry, field.name)
        if value is not None and value != field.default:
            meta[field.name] = field.to_plain(value)
    facts: Any = entry
    return EntryRecord(
        seq=entry.seq,
        kind=kind,
        unit=str(entry.unit),
        attempt=facts.attempt if layout.has_attempt else 0,
        at_ms=entry.at_ms,
        payload=facts.payload if layout.has_payload else None,
        meta=_to_text(meta, f"journal entry {entry.seq} ({kind})") if meta else None,
        format=FORMAT,
    )


def entry_from_record(record: EntryRecord) -> Entry:
    """The inverse of ``entry_to_record``, for records of this format and of older ones.

    Raises ``EncodingError`` for a kind or a format this library does not know, and for a record
    that does not hold what its kind needs.
    """
    if record.format != FORMAT:
        record = _upcast(record)
    kind = record.kind
    if kind == "unit_completed" and record.meta is None and record.payload is not None:
        return UnitCompleted(
            unit=UnitKey.parse(record.unit),
            seq=record.seq,
            at_ms=record.at_ms,
            payload=record.payload,
            attempt=record.attempt,
        )
    layout = LAYOUTS.get(kind)
    if layout is None:
        raise EncodingError(
            f"{_where(record)} is of a kind this version of durable-core does not know: a newer "
            "version wrote it. Upgrade this worker."
        )
    given: dict[str, Any] = {
        "unit": UnitKey.parse(record.unit),
        "seq": record.seq,
        "at_ms": record.at_ms,
    }
    if layout.has_attempt:
        given["attempt"] = record.attempt
    if layout.has_payload:
        if record.payload is None and not layout.payload_optional:
            raise EncodingError(f"{_where(record)} has lost its payload: the record is damaged.")
        given["payload"] = record.payload
    given.update(_given(record, layout))
    return layout.cls(**given)


def _given(record: EntryRecord, layout: _Layout) -> dict[str, Any]:
    """The fields that stand in ``meta``."""
    where = _where(record)
    meta = {} if record.meta is None else _from_text(record.meta, f"the meta of {where}")
    if type(meta) is not dict:
        raise EncodingError(f"The meta of {where} is no JSON object: the record is damaged.")
    given = {}
    for field in layout.fields:
        if field.name in meta:
            try:
                given[field.name] = field.from_plain(meta.pop(field.name))
            except Exception as error:
                raise EncodingError(
                    f"{where} has a field {field.name!r} that cannot be read "
                    f"({type(error).__name__}: {error}): the record is damaged."
                ) from error
        elif field.default is attrs.NOTHING:
            raise EncodingError(f"{where} has lost its field {field.name!r}: it is damaged.")
    if meta:
        raise EncodingError(
            f"{where} has fields its kind does not know: {', '.join(sorted(meta))}. It is damaged, "
            "or was written by a newer version of durable-core."
        )
    return given


def _upcast(record: EntryRecord) -> EntryRecord:
    while record.format != FORMAT:
        upcaster = UPCASTERS.get((record.kind, record.format))
        if upcaster is None or record.format > FORMAT:
            raise EncodingError(
                f"{_where(record)} has format {record.format}; this version of durable-core reads "
                f"formats up to {FORMAT}. Upgrade this worker."
            )
        record = upcaster(record)
    return record


def _where(record: EntryRecord) -> str:
    unit = f", unit {record.unit!r}" if record.unit else ""
    return f"Journal entry {record.seq} ({record.kind!r}{unit})"


# --- waits, failures, facts ------------------------------------------------------------------


def waits_to_text(waits: Sequence[Waiting]) -> str:
    """The JSON list that stands in ``RunRecord.waiting``."""
    return _to_text(
        [
            {
                name: value
                for name, value in attrs.asdict(wait).items()
                if value is not None or name == "unit"
            }
            for wait in waits
        ],
        "The list of waits",
    )


def waits_from_text(text: str | None) -> tuple[Waiting, ...]:
    """The inverse of ``waits_to_text``; None is the empty tuple."""
    if text is None:
        return ()
    plain = _from_text(text, "The recorded list of waits")
    try:
        return tuple(Waiting(**wait) for wait in plain)
    except TypeError as error:
        raise EncodingError(
            f"The recorded list of waits cannot be read ({error}): it is damaged, or was written "
            "by a newer version of durable-core."
        ) from error


def failure_to_text(failure: Failure) -> str:
    """The JSON object that stands in ``RunRecord.failure`` and ``Commit.failure``."""
    return _to_text(failure_to_plain(failure), "A failure")


def failure_from_text(text: str) -> Failure:
    """The inverse of ``failure_to_text``."""
    plain = _from_text(text, "A recorded failure")
    try:
        return _failure(plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise EncodingError(
            f"A recorded failure cannot be read ({type(error).__name__}: {error}): it is damaged."
        ) from error


def facts_to_text(facts: Mapping[str, Any]) -> str | None:
    """The JSON object that stands in a message's ``meta``; None for no facts."""
    return _to_text(dict(facts), "The facts of a message") if facts else None


def facts_from_text(text: str | None) -> dict[str, Any]:
    """The inverse of ``facts_to_text``."""
    if text is None:
        return {}
    plain = _from_text(text, "The facts of a message")
    if type(plain) is not dict:
        raise EncodingError("The facts of a message are no JSON object: the record is damaged.")
    return plain
