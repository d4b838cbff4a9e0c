"""Every SQL statement of the adapter, as constants; no logic.

"durable" stands for the schema; ``in_schema`` puts the configured name in its place. What a verb
does is in the functions of ``migrations``; ``plain`` has the statements for databases without
them.
"""

from __future__ import annotations

from functools import lru_cache

from .schema_name import SchemaName

PLACEHOLDER = '"durable"'


@lru_cache(maxsize=4_096)
def in_schema(sql: str, schema: SchemaName) -> str:
    """The statement for this schema. The name is quoted, and was checked when it was made."""
    return sql.replace(PLACEHOLDER, schema.quoted)


def _call(function: str, parameters: int, columns: str = "*") -> str:
    """A statement that calls one of our functions with all its parameters."""
    places = ", ".join(f"${number}" for number in range(1, parameters + 1))
    return " ".join(("SELECT", columns, "FROM", f"{PLACEHOLDER}.{function}({places})"))


def _ringing(function: str, parameters: int, news: str) -> str:
    """The same, and one column more: whether there is ``news`` and others will hear of it, on the
    channel and from the sender that are the last two parameters. That is asked once, when the
    function is through."""
    ring = f"(SELECT {PLACEHOLDER}.ring_v1(${parameters + 1}, ${parameters + 2}))"
    return _call(function, parameters, f"*, {news} AND {ring}")


# --- connection and schema -------------------------------------------------------------------

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
IN_FORCE = """
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
    current_setting('transaction_isolation'), current_setting('transaction_read_only'),
    current_setting('synchronous_commit', true)
"""
DURABILITY = {"strict": "on", "relaxed": "off"}
"""Of ``synchronous_commit``: whether a commit is answered only when it is flushed. Of those that
are not, a crash of the server may take the newest, each of them whole."""
NOW = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
NOTIFY = "SELECT pg_notify($1, $2)"
ALIVE = "SELECT 1"
END_SESSION = "SELECT pg_terminate_backend($1)"
CHECK_CONSTRAINTS = "SET CONSTRAINTS ALL IMMEDIATE"
TRANSACTION_ID = "SELECT pg_current_xact_id_if_assigned()::text"
# DISCARD ALL, but for the prepared statements, which the driver knows.
FORGET_SESSION = """
RESET SESSION AUTHORIZATION; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES;
SELECT pg_advisory_unlock_all()
"""

# Other tools have tables of this name, too.
HAS_SCHEMA = """
SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = $1 AND c.relname = 'migration' AND a.attname = 'home'
"""
CREATE_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS "durable";
CREATE TABLE "durable".migration (
    version bigint NOT NULL PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    home uuid NOT NULL DEFAULT gen_random_uuid() -- of the first: which database this is
);
"""
READ_SCHEMA = 'SELECT version, name, checksum FROM "durable".migration ORDER BY version'
READ_HOME = 'SELECT home::text FROM "durable".migration ORDER BY version LIMIT 1'
RECORD_MIGRATION = """
INSERT INTO "durable".migration (version, name, checksum) VALUES ($1, $2, $3)
"""
# One right at a time: of several in one text, any suffices.
MAY_WRITE = """
SELECT bool_and(has_table_privilege(c.oid, wanted."right"))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted ("right")
WHERE n.nspname = $1 AND c.relname IN (
    'run', 'lease', 'outcome', 'entry', 'inbox', 'posted', 'dedupe', 'token', 'attribute'
)
"""
MIGRATION_LOCK = "SELECT pg_advisory_xact_lock($1)"
MIGRATION_LIMITS = """
SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true)
"""

# --- verbs -----------------------------------------------------------------------------------

CREATE = _ringing("create_v1", 35, news="made")
DELIVER = _ringing("deliver_v1", 14, news="0 = ANY (deliver_v1)")
POST = _call("post_all_v1", 13)
CLAIM = _call("claim_v1", 10)
DELIVER_AND_CLAIM = _call("deliver_and_claim_v1", 22)
CLAIMED = _call("claimed_v1", 2)
DELIVER_AND_COMMIT = _call("deliver_and_commit_v1", 54)
COMMIT_BATCH = _call("commit_v1", 31)
COMMIT_ALL = _call("commit_all_v1", 82)
RENEW = _call("renew_v1", 5)
INBOX = _call("inbox_v1", 4)
PRUNE = _call("prune_v1", 3)

# --- leases ----------------------------------------------------------------------------------

# The fence of a transaction: whoever would take the run over waits until it is over.
LOCK_LEASE = """
SELECT epoch, owner FROM "durable".lease WHERE run_id = $1 FOR NO KEY UPDATE
"""
LOCK_LEASES = """
SELECT run_id, epoch, owner, entry_count, status, generation, waiting, failure
FROM "durable".lease WHERE run_id = ANY ($1::text[])
ORDER BY run_id FOR NO KEY UPDATE
"""
LOCK_FREE_LEASE = """
SELECT epoch FROM "durable".lease WHERE run_id = $1 FOR NO KEY UPDATE SKIP LOCKED
"""
READ_OUTCOMES = """
SELECT run_id, epoch, NULL AS owner, entry_count, status, generation, waiting, failure
FROM "durable".outcome WHERE run_id = ANY ($1::text[])
"""
WHO_WROTE = """
SELECT c.nr, e.epoch FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY c (run_id, seq, nr)
JOIN "durable".entry e ON e.run_id = c.run_id AND e.seq = c.seq
"""
STILL_THERE = """
SELECT i.run_id, i.seq FROM unnest($1::text[], $2::bigint[]) c (run_id, seq)
JOIN "durable".inbox i ON i.run_id = c.run_id AND i.seq = c.seq
"""

# --- reading ---------------------------------------------------------------------------------

READ_RECORDS = 'SELECT * FROM "durable".record WHERE run_id = ANY ($1::text[])'
READ_ENTRIES = """
SELECT seq, kind, unit, attempt, at_ms, payload, encoding, meta, format FROM "durable".entry
WHERE run_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3
"""

# --- listing ---------------------------------------------------------------------------------
#
# One statement per way into the data, all with the same remaining conditions. Parameters that
# may be absent are null.

FIND_NEWEST = """
SELECT * FROM "durable".record
WHERE (created_at_ms, run_id) < ($1::bigint, $2::text)
    AND created_at_ms >= $3
    AND ($4::text IS NULL OR workflow = $4)
ORDER BY created_at_ms DESC, run_id DESC
LIMIT $5
"""
FIND_CHILDREN = """
SELECT record.* FROM "durable".record
WHERE parent_id = $9
    AND (created_at_ms, run_id) < ($1::bigint, $2::text)
    AND created_at_ms >= $3
    AND ($4::text IS NULL OR workflow = $4)
    AND ($6::text[] IS NULL OR status = ANY ($6))
    AND NOT EXISTS (
        SELECT 1 FROM unnest($7::text[], $8::text[]) AS wanted (name, value)
        WHERE NOT EXISTS (
            SELECT 1 FROM "durable".attribute AS has
            WHERE has.run_id = record.run_id AND has.name = wanted.name
                AND has.value = wanted.value
        )
    )
ORDER BY created_at_ms DESC, run_id DESC
LIMIT $5
"""
FIND_ATTRIBUTE = """
SELECT record.* FROM "durable".attribute AS a
JOIN "durable".record ON record.run_id = a.run_id
WHERE a.name = $9 AND a.value_hash = $10 AND a.value = $11
    AND (a.created_at_ms, a.run_id) < ($1::bigint, $2::text)
    AND a.created_at_ms >= $3
    AND ($4::text IS NULL OR record.workflow = $4)
    AND ($6::text[] IS NULL OR record.status = ANY ($6))
    AND NOT EXISTS (
        SELECT 1 FROM unnest($7::text[], $8::text[]) AS wanted (name, value)
        WHERE NOT EXISTS (
            SELECT 1 FROM "durable".attribute AS has
            WHERE has.run_id = a.run_id AND has.name = wanted.name AND has.value = wanted.value
        )
    )
ORDER BY a.created_at_ms DESC, a.run_id DESC
LIMIT $5
"""
FIND_LIVE = """
SELECT record.* FROM "durable".lease AS l
JOIN "durable".record ON record.run_id = l.run_id
WHERE l.status = ANY ($6::text[])
    AND (l.created_at_ms, l.run_id) < ($1::bigint, $2::text)
    AND l.created_at_ms >= $3
    AND ($4::text IS NULL OR record.workflow = $4)
ORDER BY l.created_at_ms DESC, l.run_id DESC
LIMIT $5
"""
FIND_ENDED = """
SELECT record.* FROM unnest($6::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT o.run_id, o.created_at_ms FROM "durable".outcome AS o
    JOIN "durable".run AS r ON r.run_id = o.run_id
    WHERE o.status = wanted.status
        AND (o.created_at_ms, o.run_id) < ($1::bigint, $2::text)
        AND o.created_at_ms >= $3
        AND ($4::text IS NULL OR r.workflow = $4)
    ORDER BY o.created_at_ms DESC, o.run_id DESC
    LIMIT $5
) AS ended
JOIN "durable".record ON record.run_id = ended.run_id
"""
