"""Plain: the verbs as several statements in one transaction, for databases without our functions.

Engines that speak Postgres's protocol but refuse PL/pgSQL, or functions on distributed tables,
are served by this: lock first, read under a later snapshot, decide here, write in sets. It keeps
the rules that stand at the head of ``migrations/0002_functions.sql``, and costs a round trip for
each statement.
"""
