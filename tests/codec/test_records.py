"""Journal entries survive the store: every kind, equal; what no version wrote is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_core.codec import entry_from_record, entry_to_record, records
from durable_core.errors import EncodingError
from durable_core.kernel.failure import Failure
from durable_core.kernel.ids import RUN_UNIT, UnitKey
from durable_core.kernel.journal import ENTRY_CLASSES, CancelRequested, Entry, UnitCompleted
from durable_core.kernel.value import Payload
from durable_core.store import EntryRecord

texts = st.text(max_size=20)
integers = st.integers(0, 2**62)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3)
)
payloads = st.builds(
    Payload, st.binary(max_size=20) | st.just(b"{}"), st.sampled_from(["json", "json+zlib"])
)
failures = st.recursive(
    st.builds(Failure, type=texts, message=texts),
    lambda inner: st.builds(
        Failure,
        type=texts,
        message=texts,
        traceback=st.none() | texts,
        cause=st.none() | inner,
        details=st.none() | st.dictionaries(texts, json_values, max_size=2),
    ),
    max_leaves=3,
)
units = st.lists(st.text("ab1-é", min_size=1, max_size=4), max_size=3).map(UnitKey)
BY_TYPE: Mapping[str, st.SearchStrategy[Any]] = {
    "UnitKey": units,
    "int": integers,
    "bool": st.booleans(),
    "int | None": st.none() | integers,
    "str": texts,
    "str | None": st.none() | texts,
    "Payload": payloads,
    "Payload | None": st.none() | payloads,
    "Payload | Failure | None": st.none() | payloads | failures,
    "Failure": failures,
    "Failure | None": st.none() | failures,
    "tuple[str, ...]": st.lists(texts, max_size=3).map(tuple),
    "Mapping[str, Any] | None": st.none() | st.dictionaries(texts, json_values, max_size=3),
}


def entries(cls: type[Entry]) -> st.SearchStrategy[Entry]:
    return st.builds(cls, **{each.name: BY_TYPE[str(each.type)] for each in attrs.fields(cls)})


@given(st.data())
@pytest.mark.parametrize("kind", ENTRY_CLASSES)
def test_an_entry_comes_back_from_its_record(kind: str, data: st.DataObject) -> None:
    entry = data.draw(entries(ENTRY_CLASSES[kind]))
    record = entry_to_record(entry)
    assert entry_from_record(record) == entry
    assert record.kind == kind
    assert record.unit == str(entry.unit)
    if record.meta is not None:
        record.meta.encode()


@given(st.data())
@pytest.mark.parametrize("kind", ENTRY_CLASSES)
def test_a_damaged_record_gives_an_entry_or_an_encoding_error(
    kind: str, data: st.DataObject
) -> None:
    record = entry_to_record(data.draw(entries(ENTRY_CLASSES[kind])))
    meta = data.draw(st.none() | texts | json_values.map(json.dumps) | st.just('{"failure": 1}'))
    damaged = attrs.evolve(record, meta=meta, payload=data.draw(st.none() | payloads))
    try:
        entry = entry_from_record(damaged)
    except EncodingError:
        return
    assert isinstance(entry, ENTRY_CLASSES[kind])


def test_the_commonest_entry_has_no_meta() -> None:
    entry = UnitCompleted(
        unit=UnitKey.of("check", "fraud"), seq=3, at_ms=5, payload=Payload(b"1"), attempt=2
    )
    assert entry_to_record(entry) == EntryRecord(
        seq=3, kind="unit_completed", unit="check/fraud", attempt=2, at_ms=5, payload=Payload(b"1")
    )


def test_meta_is_compact_json_and_leaves_out_what_is_not_there() -> None:
    record = entry_to_record(CancelRequested(mode="terminate", seq=1))
    assert (record.meta, record.unit) == ('{"mode":"terminate"}', str(RUN_UNIT))


def record(**changes: Any) -> EntryRecord:
    given: dict[str, Any] = {
        "seq": 1,
        "kind": "unit_completed",
        "unit": "a",
        "attempt": 1,
        "at_ms": 0,
        "payload": Payload(b"1"),
    }
    return EntryRecord(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "unit_dreamt"}, "unit_dreamt"),
        ({"format": 2}, "format 2"),
        ({"format": 0}, "format 0"),
        ({"payload": None}, "payload"),
        ({"meta": "{"}, "not JSON"),
        ({"meta": "[]"}, "no JSON object"),
        ({"meta": '{"colour": 1}'}, "colour"),
        ({"kind": "timer_started"}, "due_at_ms"),
        ({"kind": "timer_started", "meta": '{"due_at_ms": true}'}, "due_at_ms"),
        ({"kind": "unit_failed", "meta": '{"failure": {"type": 1, "message": ""}}'}, "failure"),
        ({"kind": "unit_failed", "meta": '{"failure": {}}'}, "failure"),
    ],
)
def test_what_no_version_wrote_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(EncodingError, match=told):
        entry_from_record(record(**changes))


def test_an_older_format_passes_through_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    def upcast(old: EntryRecord) -> EntryRecord:
        return attrs.evolve(old, kind="unit_completed", format=1)

    monkeypatch.setattr(records, "UPCASTERS", {("step_done", 0): upcast})
    entry = entry_from_record(record(kind="step_done", format=0))
    assert isinstance(entry, UnitCompleted)
    assert entry.payload == Payload(b"1")
