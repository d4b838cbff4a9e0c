"""Codec: values, failures and journal entries to what is stored and back, pure."""

from __future__ import annotations

from .failure import failure_from_exception
from .layers import Layer, ZlibLayer
from .payload import ANY, Codec, JsonCodec, LayeredCodec
from .records import entry_from_record, entry_to_record
from .typed import new_converter
from .types import return_type

__all__ = [
    "ANY",
    "Codec",
    "JsonCodec",
    "Layer",
    "LayeredCodec",
    "ZlibLayer",
    "entry_from_record",
    "entry_to_record",
    "failure_from_exception",
    "new_converter",
    "return_type",
]
