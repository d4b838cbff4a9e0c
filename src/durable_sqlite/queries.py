"""Every SQL statement of the adapter, as constants; no logic.

Question marks are filled by position; the few statements with many conditions name theirs.
"""

from __future__ import annotations

# --- connection and schema -------------------------------------------------------------------

BEGIN = "BEGIN IMMEDIATE"
BEGIN_READ = "BEGIN DEFERRED"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

NO_BUSY_TIMEOUT = "PRAGMA busy_timeout = 0"
DISTRUST_SCHEMA = "PRAGMA trusted_schema = OFF"
CHECKPOINT_EVERY = "PRAGMA wal_autocheckpoint = 1000"
USE_WAL = "PRAGMA journal_mode = WAL"
READ_ONLY = "PRAGMA query_only = ON"
DATA_VERSION = "PRAGMA data_version"
SYNCHRONOUS = {
    "OFF": "PRAGMA synchronous = OFF",
    "NORMAL": "PRAGMA synchronous = NORMAL",
    "FULL": "PRAGMA synchronous = FULL",
    "EXTRA": "PRAGMA synchronous = EXTRA",
}
DURABILITY = {"strict": "FULL", "relaxed": "NORMAL"}
"""NORMAL writes the log with every commit and flushes it at checkpoints only: a power cut may take
the newest commits, whole, and never a part of one."""
MAIN_FILE = "SELECT file FROM pragma_database_list WHERE name = 'main'"

HAS_SCHEMA = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'durable_schema'"
CREATE_SCHEMA = """
CREATE TABLE durable_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at_ms INTEGER NOT NULL
) STRICT
"""
READ_SCHEMA = "SELECT version, name, checksum FROM durable_schema ORDER BY version"
RECORD_MIGRATION = """
INSERT INTO durable_schema (version, name, checksum, applied_at_ms) VALUES (?, ?, ?, ?)
"""

# Takes the write lock in the caller's transaction (begun by it, where the connection does so)
# and changes nothing.
TOUCH = "DELETE FROM durable_schema WHERE version < 0"

# --- runs ------------------------------------------------------------------------------------

READ_RECORD = "SELECT * FROM durable_record WHERE run_id = ?"

INSERT_RUN = """
INSERT INTO durable_run (
    run_id, workflow, version, fingerprint, queue, input, input_encoding, digest, priority,
    parent_id, parent_unit, depth, attributes, deadline_at_ms, created_at_ms
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id
"""
INSERT_ATTRIBUTE = """
INSERT INTO durable_attribute (name, value, created_at_ms, run_id) VALUES (?, ?, ?, ?)
"""

# --- leases ----------------------------------------------------------------------------------

READ_LEASE = """
SELECT run_id, queue, workflow, version, pin, priority, due_at_ms, anyone, deaths, owner, epoch,
    arrived, entry_count, generation, status, waiting, failure, created_at_ms, updated_at_ms
FROM durable_lease WHERE run_id = ?
"""
READ_LEASES = READ_LEASE.replace("= ?", "IN (SELECT value FROM json_each(?))")
INSERT_LEASE = """
INSERT INTO durable_lease (
    run_id, queue, workflow, version, pin, priority, due_at_ms, anyone, deaths, owner, epoch,
    arrived, entry_count, generation, status, waiting, failure, created_at_ms, updated_at_ms
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# A step that keeps its lease names no indexed column, so no index is touched.
UPDATE_PROGRESS = """
UPDATE durable_lease
SET arrived = ?, entry_count = ?, generation = ?, status = ?, waiting = ?, failure = ?,
    updated_at_ms = ?
WHERE run_id = ?
"""
UPDATE_LEASE = """
UPDATE durable_lease
SET pin = ?, due_at_ms = ?, anyone = ?, deaths = ?, owner = ?, arrived = ?, entry_count = ?,
    generation = ?, status = ?, waiting = ?, failure = ?, updated_at_ms = ?
WHERE run_id = ?
"""
DELETE_LEASE = "DELETE FROM durable_lease WHERE run_id = ?"

RENEW = """
UPDATE durable_lease SET due_at_ms = ?
WHERE run_id = ? AND epoch = ? AND owner IS NOT NULL
RETURNING arrived
"""
HELD = "SELECT arrived FROM durable_lease WHERE run_id = ? AND epoch = ? AND owner IS NOT NULL"

# --- claims ----------------------------------------------------------------------------------

# The next (pin, priority) of a queue and kind in the claim index: a skip scan, one at a time. The
# next priority of the pin, else the next pin: a comparison of pairs uses the index by its first
# half only, and so walks over every run of the group it comes from.
NEXT_GROUP = """
SELECT pin, priority FROM (
    SELECT * FROM (
        SELECT pin, priority FROM durable_lease
        WHERE queue = ?1 AND workflow = ?2 AND version = ?3 AND due_at_ms IS NOT NULL
            AND pin = ?4 AND priority > ?5
        ORDER BY priority
        LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT pin, priority FROM durable_lease
        WHERE queue = ?1 AND workflow = ?2 AND version = ?3 AND due_at_ms IS NOT NULL
            AND pin > ?4
        ORDER BY pin, priority
        LIMIT 1
    )
)
ORDER BY pin, priority
LIMIT 1
"""
READY = """
SELECT run_id, due_at_ms FROM durable_lease
WHERE queue = ? AND workflow = ? AND version = ? AND pin = ? AND priority = ?
    AND due_at_ms IS NOT NULL AND due_at_ms <= ? AND deaths < ?
ORDER BY due_at_ms, run_id
LIMIT ?
"""
NEXT_DUE = """
SELECT due_at_ms FROM durable_lease
WHERE queue = ? AND workflow = ? AND version = ? AND pin = ? AND priority = ?
    AND due_at_ms IS NOT NULL AND deaths < ?
ORDER BY due_at_ms
LIMIT 1
"""
READY_FOR_ANYONE = """
SELECT run_id, due_at_ms, priority FROM durable_lease
WHERE anyone = 1 AND due_at_ms IS NOT NULL AND due_at_ms <= ? AND deaths < ?
ORDER BY due_at_ms - priority * 60000, run_id
LIMIT ?
"""
NEXT_DUE_FOR_ANYONE = """
SELECT due_at_ms FROM durable_lease
WHERE anyone = 1 AND due_at_ms IS NOT NULL AND deaths < ?
ORDER BY due_at_ms
LIMIT 1
"""
SUSPECTS = """
SELECT run_id, due_at_ms, priority, queue, workflow, version, pin, anyone FROM durable_lease
WHERE deaths > 0 AND due_at_ms IS NOT NULL AND deaths >= ?
"""
TAKE = """
UPDATE durable_lease
SET epoch = coalesce((epoch / 4294967296 + 1) * 4294967296 + ?, epoch + 1),
    deaths = deaths + CASE WHEN owner <> ? THEN 1 ELSE 0 END,
    owner = ?,
    anyone = 0,
    due_at_ms = ?,
    updated_at_ms = ?,
    status = CASE WHEN status IN ('pending', 'suspended') THEN 'running' ELSE status END
WHERE run_id = ?
"""

# --- journal ---------------------------------------------------------------------------------

INSERT_ENTRY = """
INSERT INTO durable_entry (
    run_id, seq, epoch, kind, unit, attempt, at_ms, payload, encoding, meta, format
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
REMOVE_ENTRIES = """
DELETE FROM durable_entry WHERE run_id = ? AND seq <= ?
"""
READ_ENTRIES = """
SELECT seq, kind, unit, attempt, at_ms, payload, encoding, meta, format FROM durable_entry
WHERE run_id = ? AND seq > ?
ORDER BY seq
LIMIT ?
"""
WHO_WROTE = "SELECT epoch FROM durable_entry WHERE run_id = ? AND seq = ?"

# --- inbox -----------------------------------------------------------------------------------

INSERT_MESSAGE = """
INSERT INTO durable_inbox (
    run_id, seq, kind, name, at_ms, payload, encoding, meta, reopens
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
READ_INBOX = """
SELECT seq, kind, name, at_ms, payload, encoding, meta FROM durable_inbox
WHERE run_id = ? AND seq > ?
ORDER BY seq
"""
CONSUME = "DELETE FROM durable_inbox WHERE run_id = ? AND seq = ?"
COUNT_INBOX = "SELECT count(*) FROM durable_inbox WHERE run_id = ?"
HAS_MESSAGE = "SELECT EXISTS (SELECT 1 FROM durable_inbox WHERE run_id = ? AND seq = ?)"
HAS_UNSEEN = "SELECT EXISTS (SELECT 1 FROM durable_inbox WHERE run_id = ? AND seq > ?)"
HAS_REOPENER = """
SELECT EXISTS (SELECT 1 FROM durable_inbox WHERE run_id = ? AND seq > ? AND reopens = 1)
"""

HAS_DEDUPE = "SELECT EXISTS (SELECT 1 FROM durable_dedupe WHERE run_id = ? AND dedupe = ?)"
INSERT_DEDUPE = "INSERT INTO durable_dedupe (run_id, dedupe) VALUES (?, ?)"

READ_TOKEN = "SELECT digest FROM durable_token WHERE run_id = ? AND token = ?"
OPEN_TOKEN = """
INSERT INTO durable_token (run_id, token) VALUES (?, ?) ON CONFLICT (run_id, token) DO NOTHING
"""
USE_TOKEN = "UPDATE durable_token SET digest = ? WHERE run_id = ? AND token = ?"
CLOSE_TOKEN = "DELETE FROM durable_token WHERE run_id = ? AND token = ? AND digest IS NULL"
CLOSE_TOKENS = "DELETE FROM durable_token WHERE run_id = ? AND digest IS NULL"

# --- outcomes --------------------------------------------------------------------------------

INSERT_OUTCOME = """
INSERT INTO durable_outcome (
    run_id, status, generation, waiting, failure, entry_count, epoch, arrived, created_at_ms,
    finished_at_ms, parent_id
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, (SELECT parent_id FROM durable_run WHERE run_id = ?1)
)
"""
DELETE_OUTCOME = "DELETE FROM durable_outcome WHERE run_id = ?"

# The lease row an ended run would have; columns as in READ_LEASE.
READ_ENDED = """
SELECT r.run_id, r.queue, r.workflow, r.version, '', r.priority, NULL, 0, 0, NULL, o.epoch,
    o.arrived, o.entry_count, o.generation, o.status, o.waiting, o.failure, r.created_at_ms,
    o.finished_at_ms
FROM durable_outcome AS o
JOIN durable_run AS r ON r.run_id = o.run_id
WHERE o.run_id = ?
"""

# --- listing ---------------------------------------------------------------------------------
#
# One statement per way into the data, all with the same remaining conditions. Parameters that
# may be absent are null; lists and maps are JSON.

FIND_NEWEST = """
SELECT * FROM durable_record
WHERE (created_at_ms, run_id) < (:before_ms, :before_id)
    AND created_at_ms >= :since_ms
    AND (:workflow IS NULL OR workflow = :workflow)
ORDER BY created_at_ms DESC, run_id DESC
LIMIT :limit
"""
FIND_CHILDREN = """
SELECT * FROM durable_record
WHERE parent_id = :parent_id
    AND (created_at_ms, run_id) < (:before_ms, :before_id)
    AND created_at_ms >= :since_ms
    AND (:workflow IS NULL OR workflow = :workflow)
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:attributes) AS wanted
        WHERE NOT EXISTS (
            SELECT 1 FROM durable_attribute AS has
            WHERE has.name = wanted.key AND has.value = wanted.value
                AND has.created_at_ms = durable_record.created_at_ms
                AND has.run_id = durable_record.run_id
        )
    )
ORDER BY created_at_ms DESC, run_id DESC
LIMIT :limit
"""
FIND_ATTRIBUTE = """
SELECT record.* FROM durable_attribute AS a
CROSS JOIN durable_record AS record ON record.run_id = a.run_id
WHERE a.name = :name AND a.value = :value
    AND (a.created_at_ms, a.run_id) < (:before_ms, :before_id)
    AND a.created_at_ms >= :since_ms
    AND (:workflow IS NULL OR record.workflow = :workflow)
    AND (:statuses IS NULL OR record.status IN (SELECT value FROM json_each(:statuses)))
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:attributes) AS wanted
        WHERE NOT EXISTS (
            SELECT 1 FROM durable_attribute AS has
            WHERE has.name = wanted.key AND has.value = wanted.value
                AND has.created_at_ms = a.created_at_ms AND has.run_id = a.run_id
        )
    )
ORDER BY a.created_at_ms DESC, a.run_id DESC
LIMIT :limit
"""
FIND_LIVE = """
SELECT record.* FROM durable_lease AS l
CROSS JOIN durable_record AS record ON record.run_id = l.run_id
WHERE l.status IN (SELECT value FROM json_each(:statuses))
    AND (l.created_at_ms, l.run_id) < (:before_ms, :before_id)
    AND l.created_at_ms >= :since_ms
    AND (:workflow IS NULL OR l.workflow = :workflow)
ORDER BY l.created_at_ms DESC, l.run_id DESC
LIMIT :limit
"""
FIND_ENDED = """
SELECT record.* FROM durable_outcome AS o
CROSS JOIN durable_record AS record ON record.run_id = o.run_id
WHERE o.status = :status
    AND (o.created_at_ms, o.run_id) < (:before_ms, :before_id)
    AND o.created_at_ms >= :since_ms
    AND (:workflow IS NULL OR record.workflow = :workflow)
ORDER BY o.created_at_ms DESC, o.run_id DESC
LIMIT :limit
"""

# --- pruning ---------------------------------------------------------------------------------

# A scan of the index by end alone, from its head. Runs whose parent exists still are passed over
# one by one, however many they are (some 40 ms for 100,000): they hide nobody behind them. No index
# can leave them out, because what sets them free is the removal of another row.
FIND_PRUNABLE = """
SELECT run_id, entry_count FROM durable_outcome
WHERE finished_at_ms < :before_ms
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND NOT EXISTS (
        SELECT 1 FROM durable_run AS parent WHERE parent.run_id = durable_outcome.parent_id
    )
ORDER BY finished_at_ms, run_id
LIMIT :limit
"""

# All of the runs in a JSON list of ids; their own rows last, because they know the attributes.
DELETE_RUNS = (
    """
DELETE FROM durable_attribute
WHERE (name, value, created_at_ms, run_id) IN (
    SELECT attribute.key, attribute.value, run.created_at_ms, run.run_id
    FROM json_each(?) AS gone
    CROSS JOIN durable_run AS run ON run.run_id = gone.value
    CROSS JOIN json_each(run.attributes) AS attribute
)
""",
    "DELETE FROM durable_entry WHERE run_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM durable_inbox WHERE run_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM durable_dedupe WHERE run_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM durable_token WHERE run_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM durable_outcome WHERE run_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM durable_run WHERE run_id IN (SELECT value FROM json_each(?))",
)
