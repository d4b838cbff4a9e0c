"""Values to bytes and back: typed JSON for values, plain records for entries and failures.

Pure: nothing here does IO, reads a clock or knows a store.
"""

from __future__ import annotations

from .failure import failure_from_exception
from .layers import Layer, LayeredCodec, ZlibLayer
from .payload import Codec, JsonCodec
from .records import (
    entry_from_record,
    entry_to_record,
    facts_from_text,
    facts_to_text,
    failure_from_text,
    failure_to_text,
    waits_from_text,
    waits_to_text,
)
from .types import ANY, return_type

__all__ = [
    "ANY",
    "Codec",
    "JsonCodec",
    "Layer",
    "LayeredCodec",
    "ZlibLayer",
    "entry_from_record",
    "entry_to_record",
    "facts_from_text",
    "facts_to_text",
    "failure_from_exception",
    "failure_from_text",
    "failure_to_text",
    "return_type",
    "waits_from_text",
    "waits_to_text",
]
