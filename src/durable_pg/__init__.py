"""Postgres adapter of durable-core: not written yet, this package only reserves its place.

It will hold ``PgStore``, with the same file names and the same order of methods as
``durable_sqlite``. Until then there is nothing to import from here.
"""
