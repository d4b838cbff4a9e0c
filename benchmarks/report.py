"""Report: how every benchmark prints what it measured."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def machine(**versions: str) -> Row:
    """Where and with what the figures were taken; ``versions`` of what else took part."""
    return {
        "python": platform.python_version(),
        **versions,
        "system": platform.system(),
        "processor": platform.machine(),
    }


def emit(benchmark: str, row: Row) -> None:
    """One case as a JSON line on standard output."""
    figures = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    print(json.dumps({"benchmark": benchmark, **figures}), flush=True)


def table(title: str, rows: Sequence[Row]) -> None:
    """All cases as an aligned table on standard error, for people."""
    if not rows:
        return
    columns = list(rows[0])
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    out = sys.stderr
    print(f"\n{title}", file=out)
    print("  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)), file=out)
    for line in cells:
        print("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)), file=out)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)
