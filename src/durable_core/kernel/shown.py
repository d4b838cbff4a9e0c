"""Shown: somebody's value in a message, whatever it is; short, printable, and never raising."""

from __future__ import annotations

LENGTH = 80


def shown(value: object) -> str:
    """``repr(value)``, cut at 80 characters; what cannot be printed is called by its type.

    A ``__repr__`` may raise, and Python itself refuses to print an int of thousands of digits.
    """
    try:
        text = repr(value)
        if len(text) > LENGTH:
            text = f"{text[:LENGTH]}..."
        return text if text.isprintable() else ascii(text)
    except Exception:
        return f"an unprintable {type(value).__name__}"
