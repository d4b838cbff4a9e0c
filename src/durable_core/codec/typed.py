"""Annotated values <-> plain ones."""

from __future__ import annotations

from typing import Any

import cattrs


def new_converter() -> cattrs.Converter:
    return cattrs.Converter()


class TypeTable:
    def __init__(self, converter: cattrs.Converter) -> None:
        self._converter = converter

    def unstructure(self, value: Any, type_: Any) -> Any:
        return self._converter.unstructure(value, type_)

    def structure(self, value: Any, type_: Any) -> Any:
        return self._converter.structure(value, type_)
