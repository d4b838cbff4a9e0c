"""The statements of the plain verbs, as constants; no logic. Sets travel as arrays."""

from __future__ import annotations

# --- runs ------------------------------------------------------------------------------------

INSERT_RUNS = """
INSERT INTO "durable".run (
    run_id, workflow, version, fingerprint, queue, lane, input, input_encoding, digest, priority,
    parent_id, parent_unit, depth, attributes, deadline_at_ms, created_at_ms
)
SELECT n.run_id, n.workflow, n.version, n.fingerprint, n.queue, n.lane, n.input, n.encoding,
    n.digest, n.priority, n.parent_id, n.parent_unit, n.depth, n.attributes, n.deadline, $18
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[],
    $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[],
    $14::bigint[], $15::text[], $16::bigint[], $17::bigint[]
) n (
    run_id, workflow, version, fingerprint, queue, lane, input, encoding, digest, priority,
    delay, parent_id, parent_unit, depth, attributes, deadline, entries
)
ORDER BY n.run_id COLLATE "C"
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id
"""
INSERT_LEASES = """
INSERT INTO "durable".lease (
    run_id, lane, priority, due_at_ms, entry_count, created_at_ms, updated_at_ms, epoch, arrived,
    generation, deaths, anyone, pin, status, owner
)
SELECT n.run_id, n.lane, n.priority, $9 + n.due_in, n.entries, $9, $9, n.epoch, 0, 1, 0, false, '',
    n.status, n.owner
FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],
    $8::text[]
) n (run_id, lane, priority, due_in, entries, owner, epoch, status)
"""
INSERT_ATTRIBUTES = """
INSERT INTO "durable".attribute (run_id, name, value, value_hash, created_at_ms)
SELECT a.run_id, a.name, a.value, a.hash, $5
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) a (run_id, name, value, hash)
"""

# --- leases ----------------------------------------------------------------------------------

LEASE = """
SELECT run_id, epoch, arrived, entry_count, owner, due_at_ms FROM "durable".lease
WHERE run_id = ANY ($1::text[])
"""
LOCK_LEASES = LEASE + "ORDER BY run_id FOR NO KEY UPDATE"
LOCK_FREE_LEASES = LEASE + "FOR NO KEY UPDATE SKIP LOCKED"
LOCK_FREE_OUTCOMES = """
SELECT run_id, arrived FROM "durable".outcome
WHERE run_id = ANY ($1::text[]) FOR UPDATE SKIP LOCKED
"""
PROGRESS = """
UPDATE "durable".lease l SET
    entry_count = c.entry_count,
    deaths = CASE WHEN c.wrote THEN 0 ELSE l.deaths END,
    status = c.status,
    generation = c.generation,
    waiting = c.waiting,
    failure = c.failure,
    updated_at_ms = $11,
    owner = CASE WHEN c.released THEN NULL ELSE l.owner END,
    pin = CASE WHEN c.released THEN c.pin ELSE l.pin END,
    due_at_ms = CASE WHEN c.released THEN c.due ELSE l.due_at_ms END
FROM unnest(
    $1::text[], $2::bigint[], $3::boolean[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::boolean[], $9::bigint[], $10::text[]
) c (run_id, entry_count, wrote, status, generation, waiting, failure, released, due, pin)
WHERE l.run_id = c.run_id
"""
BEGIN_ANEW = """
UPDATE "durable".lease l SET
    entry_count = c.entry_count, generation = c.generation, updated_at_ms = $4, status = 'pending',
    waiting = NULL, failure = NULL, owner = NULL, deaths = 0, pin = '', due_at_ms = $4
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) c (run_id, entry_count, generation)
WHERE l.run_id = c.run_id
"""
INSERT_OUTCOMES = """
INSERT INTO "durable".outcome (
    run_id, status, generation, waiting, failure, entry_count, epoch, arrived, created_at_ms,
    finished_at_ms, parent_id
)
SELECT c.run_id, c.status, c.generation, c.waiting, c.failure, c.entry_count, l.epoch, l.arrived,
    l.created_at_ms, $7, r.parent_id
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
    c (run_id, status, generation, waiting, failure, entry_count)
JOIN "durable".lease l ON l.run_id = c.run_id
JOIN "durable".run r ON r.run_id = c.run_id
"""
DELETE_LEASES = 'DELETE FROM "durable".lease WHERE run_id = ANY ($1::text[])'
RENEW = """
UPDATE "durable".lease l SET due_at_ms = $3
FROM unnest($1::text[], $2::bigint[]) h (run_id, epoch)
WHERE l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
"""
KEPT = """
SELECT l.run_id, l.epoch, (l.arrived > h.seen AND EXISTS (
        SELECT 1 FROM "durable".inbox i WHERE i.run_id = l.run_id AND i.seq > h.seen
    )) OR EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = l.run_id)
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) h (run_id, epoch, seen)
JOIN "durable".lease l ON l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
"""

# --- journal ---------------------------------------------------------------------------------

REMOVE_ENTRIES = """
DELETE FROM "durable".entry e USING unnest($1::text[], $2::bigint[]) c (run_id, after)
WHERE e.run_id = c.run_id AND e.seq <= c.after
"""
INSERT_ENTRIES = """
INSERT INTO "durable".entry (
    run_id, epoch, seq, kind, unit, attempt, at_ms, payload, encoding, meta, format
)
SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bytea[], $9::text[], $10::text[], $11::bigint[]
)
"""
READ_JOURNALS = """
SELECT c.run_id, e.seq, e.kind, e.unit, e.attempt, e.at_ms, e.payload, e.encoding, e.meta, e.format
FROM unnest($1::text[]) c (run_id)
CROSS JOIN LATERAL (
    SELECT * FROM "durable".entry n WHERE n.run_id = c.run_id ORDER BY n.seq LIMIT $2
) e
ORDER BY c.run_id, e.seq
"""

# --- inbox -----------------------------------------------------------------------------------

CONSUME = """
DELETE FROM "durable".inbox i USING unnest($1::text[], $2::bigint[]) c (run_id, seq)
WHERE i.run_id = c.run_id AND i.seq = c.seq
"""
UNSEEN = """
SELECT i.run_id, bool_or(i.reopens) FROM unnest($1::text[], $2::bigint[]) c (run_id, seen)
JOIN "durable".inbox i ON i.run_id = c.run_id AND i.seq > c.seen
GROUP BY i.run_id
"""
READ_MAIL = """
SELECT i.run_id, i.seq, i.kind, i.name, i.at_ms, i.payload, i.encoding, i.meta
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY h (run_id, epoch, seen, nr)
JOIN "durable".lease l ON l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
    AND l.arrived > h.seen
JOIN "durable".inbox i ON i.run_id = h.run_id AND i.seq > h.seen
ORDER BY h.nr, i.seq
"""
READ_INBOXES = """
SELECT run_id, seq, kind, name, at_ms, payload, encoding, meta
FROM "durable".inbox WHERE run_id = ANY ($1::text[])
ORDER BY run_id, seq
"""
COUNT_INBOX = 'SELECT count(*) FROM "durable".inbox WHERE run_id = $1'
INSERT_MESSAGE = """
INSERT INTO "durable".inbox (run_id, seq, kind, name, at_ms, payload, encoding, meta, reopens)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
RECEIVE = """
UPDATE "durable".lease SET
    arrived = $2,
    anyone = anyone OR $3::boolean,
    pin = '',
    due_at_ms = CASE
        WHEN owner IS NULL THEN least(due_at_ms, $4::bigint) ELSE due_at_ms
    END
WHERE run_id = $1
"""
RECEIVE_LATE = 'UPDATE "durable".outcome SET arrived = $2 WHERE run_id = $1'
REOPEN = """
INSERT INTO "durable".lease (
    run_id, lane, priority, due_at_ms, entry_count, created_at_ms, updated_at_ms, epoch, arrived,
    generation, deaths, anyone, pin, status
)
SELECT r.run_id, r.lane, r.priority, $2, o.entry_count, o.created_at_ms, $2, o.epoch, $3,
    o.generation, 0, $4::boolean, '', 'pending'
FROM "durable".outcome o JOIN "durable".run r ON r.run_id = o.run_id WHERE o.run_id = $1
"""
DELETE_OUTCOME = 'DELETE FROM "durable".outcome WHERE run_id = $1'

HAS_DEDUPE = 'SELECT 1 FROM "durable".dedupe WHERE run_id = $1 AND dedupe = $2'
INSERT_DEDUPE = 'INSERT INTO "durable".dedupe (run_id, dedupe) VALUES ($1, $2)'

READ_TOKEN = 'SELECT digest FROM "durable".token WHERE run_id = $1 AND token = $2'
OPEN_TOKENS = """
INSERT INTO "durable".token (run_id, token)
SELECT DISTINCT run_id, token FROM unnest($1::text[], $2::text[]) t (run_id, token)
ON CONFLICT (run_id, token) DO NOTHING
"""
CLOSE_TOKENS = """
DELETE FROM "durable".token o USING unnest($1::text[], $2::text[]) t (run_id, token)
WHERE o.run_id = t.run_id AND o.token = t.token AND o.digest IS NULL
"""
CLOSE_ALL_TOKENS = """
DELETE FROM "durable".token WHERE run_id = ANY ($1::text[]) AND digest IS NULL
"""
USE_TOKEN = 'UPDATE "durable".token SET digest = $3 WHERE run_id = $1 AND token = $2'

# --- posted ----------------------------------------------------------------------------------

POST_STATE = """
SELECT l.run_id IS NULL AND o.run_id IS NOT NULL, coalesce(l.arrived, o.arrived)
FROM "durable".run r
LEFT JOIN "durable".lease l ON l.run_id = r.run_id
LEFT JOIN "durable".outcome o ON o.run_id = r.run_id
WHERE r.run_id = $1
"""
READ_POSTED = """
SELECT dedupe, token, digest FROM "durable".posted WHERE run_id = $1
"""
# As a foreign key would, this keeps the run from being removed before the message is there.
POST = """
INSERT INTO "durable".posted (
    run_id, kind, name, payload, encoding, meta, dedupe, token, digest, reopens, anyone, at_ms
)
SELECT run_id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
FROM "durable".run WHERE run_id = $1 FOR KEY SHARE
RETURNING run_id
"""
# Some runs that messages are on their way to: a skip scan, because one may have got very many.
RECEIVERS = """
WITH RECURSIVE receiver AS (
    (SELECT p.run_id FROM "durable".posted p ORDER BY p.run_id LIMIT 1)
    UNION ALL
    SELECT n.run_id FROM receiver r
    CROSS JOIN LATERAL (
        SELECT p.run_id FROM "durable".posted p WHERE p.run_id > r.run_id
        ORDER BY p.run_id LIMIT 1
    ) n
)
SELECT r.run_id FROM receiver r LIMIT 200
"""
ANY_POSTED = 'SELECT 1 FROM "durable".posted LIMIT 1'
POSTED_TO = 'SELECT DISTINCT run_id FROM "durable".posted WHERE run_id = ANY ($1::text[])'
TAKE_POSTED = """
DELETE FROM "durable".posted WHERE run_id = ANY ($1::text[])
RETURNING id, run_id, kind, name, payload, encoding, meta, dedupe, token, digest, reopens, anyone
"""
DROP_POSTED = """
DELETE FROM "durable".posted p WHERE p.run_id = ANY ($1::text[])
    AND NOT EXISTS (SELECT 1 FROM "durable".run r WHERE r.run_id = p.run_id)
"""

# --- claims ----------------------------------------------------------------------------------

WITHIN_REACH = """
    (l.anyone OR EXISTS (
        SELECT 1 FROM unnest($1::bigint[], $2::text[]) k (lane, pin)
        WHERE k.lane = l.lane AND k.pin = l.pin
    ))
"""
NOTHING_POSTED = """
    AND NOT EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = l.run_id)
"""
DUE = (
    """
SELECT l.run_id, l.due_at_ms - l.priority * 60000 AS rank FROM "durable".lease l
WHERE l.due_at_ms <= $3 AND l.deaths < $4 AND
"""
    + WITHIN_REACH
    + """
ORDER BY rank, l.run_id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
"""
)
SUSPECTS = (
    """
SELECT l.run_id, l.due_at_ms - l.priority * 60000 AS rank FROM "durable".lease l
WHERE l.due_at_ms <= $3 AND l.deaths > 0 AND l.deaths >= $4 AND
"""
    + WITHIN_REACH
    + """
ORDER BY rank, l.run_id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
"""
)
TAKE = """
UPDATE "durable".lease SET
    epoch = coalesce((epoch / 4294967296 + 1) * 4294967296 + $5::bigint, epoch + 1),
    deaths = deaths + CASE WHEN owner <> $2 THEN 1 ELSE 0 END,
    owner = $2,
    anyone = false,
    due_at_ms = $3,
    updated_at_ms = $4,
    status = CASE WHEN status IN ('pending', 'suspended') THEN 'running' ELSE status END
WHERE run_id = ANY ($1::text[])
"""
FREE = (
    """
SELECT l.run_id, l.due_at_ms - l.priority * 60000 AS rank FROM "durable".lease l
WHERE l.run_id = ANY ($6::text[]) AND l.owner IS NULL AND l.due_at_ms <= $3 AND l.deaths < $4
    AND
"""
    + WITHIN_REACH
    + NOTHING_POSTED
    + """
ORDER BY rank, l.run_id LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
"""
)
NEXT_DUE = (
    """
SELECT min(l.due_at_ms) FROM "durable".lease l
WHERE l.due_at_ms IS NOT NULL AND (l.deaths < $3 OR $4 > 0) AND
"""
    + WITHIN_REACH
)

# --- pruning ---------------------------------------------------------------------------------

LOCK_PRUNABLE = """
SELECT o.run_id, o.entry_count FROM "durable".outcome o
JOIN "durable".run r ON r.run_id = o.run_id
WHERE o.finished_at_ms < $1
    AND ($2::text[] IS NULL OR o.status = ANY ($2))
    AND NOT EXISTS (SELECT 1 FROM "durable".run p WHERE p.run_id = o.parent_id)
    AND NOT EXISTS (SELECT 1 FROM "durable".posted m WHERE m.run_id = r.run_id AND m.reopens)
ORDER BY o.finished_at_ms, o.run_id
LIMIT $3
FOR UPDATE OF o, r SKIP LOCKED
"""
# Messages that came while we locked are known to a new statement only.
ABOUT_TO_REOPEN = """
SELECT DISTINCT run_id FROM "durable".posted WHERE run_id = ANY ($1::text[]) AND reopens
"""
DELETE_RUNS = (
    'DELETE FROM "durable".outcome WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".entry WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".inbox WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".posted WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".dedupe WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".token WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".attribute WHERE run_id = ANY ($1::text[])',
    'DELETE FROM "durable".run WHERE run_id = ANY ($1::text[])',
)
