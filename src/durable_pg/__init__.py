"""Postgres adapter of durable-core: ``PgStore``, and the SQL of its schema."""

from .connection import PgConn
from .schema import migration_sql
from .store import PgStore

__all__ = ["PgConn", "PgStore", "migration_sql"]
