"""SQLite adapter of durable-core: ``SqliteStore``."""

from .store import SqliteStore

__all__ = ["SqliteStore"]
