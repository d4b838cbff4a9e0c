"""SQLite adapter of durable-core."""
