"""Typed values to builtins and back (first cut: plain cattrs)."""

from __future__ import annotations

from typing import Any

import cattrs


class Typed:
    def __init__(self, converter: cattrs.Converter | None) -> None:
        self._converter = cattrs.Converter() if converter is None else converter.copy()

    def dump(self, value: Any, type_: Any) -> Any:
        return self._converter.unstructure(value, unstructure_as=type_)

    def load(self, tree: Any, type_: Any) -> Any:
        return self._converter.structure(tree, type_)
