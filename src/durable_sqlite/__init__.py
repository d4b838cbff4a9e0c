"""SQLite adapter of durable-core: ``SqliteStore``, and the SQL of its schema."""

from .schema import migration_sql
from .store import SqliteStore

__all__ = ["SqliteStore", "migration_sql"]
