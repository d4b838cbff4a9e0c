"""Exporting: a run with its journal as it is stored, as text that can be kept and read again.

What is exported is what replay needs and nothing that a workflow must be known for: payloads
stay as they are stored, so an export of values behind a codec's layers is as secret as the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ...codec.records import payload_from_plain, payload_to_plain
from ...errors import EncodingError
from ...kernel.value import Payload
from ...store import EntryRecord, RunRecord

FORMAT = 1


@attrs.frozen(slots=True, kw_only=True)
class RunExport:
    """A run and its journal, taken out of a store: ``engine.export(run_id)``.

    ``to_json`` and ``from_json`` keep it in a file, beside the tests that replay it.
    """

    run_id: str
    workflow: str
    version: str
    fingerprint: str
    status: str
    input: Payload
    created_at_ms: int
    parent_id: str | None = None
    parent_unit: str | None = None
    depth: int = 0
    deadline_ms: int | None = None
    entries: tuple[EntryRecord, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<RunExport of {self.run_id!r}: {self.workflow!r} version {self.version!r}, "
            f"{self.status}, {len(self.entries)} entries>"
        )

    def to_json(self) -> str:
        """As text."""
        facts = {name: getattr(self, name) for name in _FACTS}
        plain = {
            "format": FORMAT,
            **facts,
            "input": payload_to_plain(self.input),
            "entries": [_entry_to_plain(entry) for entry in self.entries],
        }
        return json.dumps(plain, indent=1)

    @classmethod
    def from_json(cls, text: str) -> RunExport:
        """The inverse of ``to_json``. Raises ``EncodingError``."""
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise EncodingError(
                    f"this export has format {plain['format']!r}; this version of durable-core "
                    f"reads format {FORMAT}"
                )
            return cls(
                **{name: plain[name] for name in _FACTS},
                input=payload_from_plain(plain["input"]),
                entries=tuple(map(_entry_from_plain, plain["entries"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EncodingError(
                f"this is no exported run ({type(error).__name__}: {error}); give the text that "
                "RunExport.to_json() made"
            ) from error


_FACTS = tuple(
    field.name for field in attrs.fields(RunExport) if field.name not in ("input", "entries")
)


def exported(record: RunRecord, entries: Iterable[EntryRecord]) -> RunExport:
    """A run of a store, and its whole journal."""
    facts = {name: getattr(record, name) for name in _FACTS}
    return RunExport(**facts, input=record.input, entries=tuple(entries))


def _entry_to_plain(entry: EntryRecord) -> dict[str, Any]:
    plain = attrs.asdict(entry, recurse=False)
    if entry.payload is not None:
        plain["payload"] = payload_to_plain(entry.payload)
    return {name: value for name, value in plain.items() if value is not None}


def _entry_from_plain(plain: Mapping[str, Any]) -> EntryRecord:
    facts = dict(plain)
    if "payload" in facts:
        facts["payload"] = payload_from_plain(facts["payload"])
    return EntryRecord(**facts)
