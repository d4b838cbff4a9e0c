-- Version 1: runs, leases, journals, inboxes. Never edited after a release: add a file.
--
-- What is written once stays apart from what changes: a step of a run inserts one entry and
-- updates one small lease row in place, and an ended run costs nothing any more, because its
-- lease row is gone. Every table is keyed by the run first, and no statement of the adapter needs
-- a row of another run to be consistent with it: run_id can be the distribution column of a
-- sharded Postgres. No foreign keys, no sequences that a transaction must wait for, no extension.
-- Ids are compared byte by byte (collation "C"), as every other store does. Times are ms since
-- 1970 UTC, by this database's clock. Columns of eight bytes come first: no padding.
--
-- "durable" stands for the schema; the adapter puts the configured name in its place.

CREATE SCHEMA IF NOT EXISTS "durable";

-- What a run was started with. Insert only.
CREATE TABLE "durable".run (
    created_at_ms bigint NOT NULL,
    deadline_at_ms bigint,
    priority bigint NOT NULL,
    depth bigint NOT NULL,
    lane bigint NOT NULL, -- a hash of queue, workflow and version: what a claim selects by
    run_id text COLLATE "C" NOT NULL PRIMARY KEY,
    workflow text NOT NULL,
    version text NOT NULL,
    fingerprint text NOT NULL,
    queue text NOT NULL,
    digest text NOT NULL,
    parent_id text COLLATE "C",
    parent_unit text,
    attributes text NOT NULL, -- JSON object of texts; a copy of "attribute", for reading
    input_encoding text NOT NULL,
    input bytea NOT NULL
);

-- Listing, newest first.
CREATE INDEX run_created ON "durable".run (created_at_ms, run_id);

-- Listing the children of a run.
CREATE INDEX run_parent ON "durable".run (parent_id, created_at_ms) WHERE parent_id IS NOT NULL;

-- One row per live run: everything that changes while it lives. A step that keeps its lease
-- changes no indexed column, so its update is HOT as long as the page has room: hence the
-- fillfactor. Claims, releases and renewals move the run in the index "lease_due"; the table is
-- small but churns, so autovacuum is told to come early and not to dawdle.
CREATE TABLE "durable".lease (
    due_at_ms bigint, -- start, timer, retry, lease expiry; null: only a message moves the run
    epoch bigint NOT NULL,
    arrived bigint NOT NULL, -- number of the newest message
    entry_count bigint NOT NULL,
    generation bigint NOT NULL,
    deaths bigint NOT NULL,
    priority bigint NOT NULL,
    lane bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    anyone boolean NOT NULL, -- a message came for which any worker may make the next claim
    run_id text COLLATE "C" NOT NULL PRIMARY KEY,
    pin text COLLATE "C" NOT NULL, -- '' or the fingerprint a worker must have
    owner text,
    status text NOT NULL,
    waiting text,
    failure text
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);

-- Claims. One short range scan per lane, pin and priority, in due order: runs of other workers'
-- kinds, of definitions this worker does not have, and runs not yet due are never looked at,
-- however many there are. The first run not yet due is the next time to look. The predicate must
-- read "is not null": a claim asks for "due_at_ms <= now", which implies it.
CREATE INDEX lease_due ON "durable".lease (lane, pin, priority, due_at_ms, run_id)
    WHERE due_at_ms IS NOT NULL;

-- The few runs that any worker may claim, and the few whose workers died.
CREATE INDEX lease_anyone ON "durable".lease (due_at_ms) WHERE anyone AND due_at_ms IS NOT NULL;
CREATE INDEX lease_deaths ON "durable".lease (deaths) WHERE deaths > 0 AND due_at_ms IS NOT NULL;

-- How a run ended. Its result is in its journal. Epoch, arrival number and the rest of the
-- lease row are kept for a run that is opened again.
CREATE TABLE "durable".outcome (
    finished_at_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    epoch bigint NOT NULL,
    arrived bigint NOT NULL,
    entry_count bigint NOT NULL,
    generation bigint NOT NULL,
    run_id text COLLATE "C" NOT NULL PRIMARY KEY,
    parent_id text COLLATE "C", -- a copy of the run's, for pruning
    status text COLLATE "C" NOT NULL,
    waiting text,
    failure text
);

-- Listing ended runs of one status, newest first; pruning, oldest end first. Runs that must stay,
-- because their parent is still there, are passed over one by one.
CREATE INDEX outcome_status ON "durable".outcome (status, created_at_ms, run_id);
CREATE INDEX outcome_finished ON "durable".outcome (finished_at_ms, run_id);

-- The journal. Append only. The epoch tells who wrote an entry, for commits of unknown outcome.
CREATE TABLE "durable".entry (
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    at_ms bigint NOT NULL,
    attempt bigint NOT NULL,
    format bigint NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    unit text NOT NULL,
    encoding text, -- of the payload; null with it
    meta text,
    payload bytea,
    PRIMARY KEY (run_id, seq)
);

-- Messages until they are consumed.
CREATE TABLE "durable".inbox (
    seq bigint NOT NULL,
    at_ms bigint NOT NULL,
    reopens boolean NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    encoding text,
    meta text,
    payload bytea,
    PRIMARY KEY (run_id, seq)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- Messages on their way: written without the lease row's lock (in a caller's own transaction, or
-- because somebody held that lock), and put into the inbox by whoever next holds it. The number
-- orders one sender's messages; nothing depends on its gaps.
CREATE TABLE "durable".posted (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at_ms bigint NOT NULL,
    reopens boolean NOT NULL,
    anyone boolean NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    encoding text,
    meta text,
    dedupe text COLLATE "C",
    token text COLLATE "C",
    digest text,
    payload bytea,
    PRIMARY KEY (run_id, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);

-- What outlives a consumed message that had a dedupe key, so that a late resend changes nothing.
CREATE TABLE "durable".dedupe (
    run_id text COLLATE "C" NOT NULL,
    dedupe text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, dedupe)
);

-- Suspension tokens: open while the digest is null, afterwards the digest of what used them.
CREATE TABLE "durable".token (
    run_id text COLLATE "C" NOT NULL,
    token text COLLATE "C" NOT NULL,
    digest text,
    PRIMARY KEY (run_id, token)
);

-- Attributes of runs, for listing by them, newest first. Values may be longer than an index
-- takes, so they are found by a hash.
CREATE TABLE "durable".attribute (
    created_at_ms bigint NOT NULL,
    value_hash bigint NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, name)
);
CREATE INDEX attribute_found ON "durable".attribute (name, value_hash, created_at_ms, run_id);

-- A run as one row, live or ended; also the place to look from a shell.
CREATE VIEW "durable".record AS
SELECT
    r.run_id,
    r.workflow,
    r.version,
    r.fingerprint,
    r.queue,
    r.input,
    r.input_encoding,
    r.digest,
    r.priority,
    r.parent_id,
    r.parent_unit,
    r.depth,
    r.attributes,
    r.deadline_at_ms,
    r.created_at_ms,
    coalesce(l.updated_at_ms, o.finished_at_ms) AS updated_at_ms,
    o.finished_at_ms,
    coalesce(l.status, o.status) AS status,
    coalesce(l.generation, o.generation) AS generation,
    coalesce(l.waiting, o.waiting) AS waiting,
    coalesce(l.failure, o.failure) AS failure,
    coalesce(l.entry_count, o.entry_count) AS entry_count,
    coalesce(l.epoch, o.epoch) AS epoch,
    l.owner,
    l.due_at_ms,
    coalesce(l.deaths, 0) AS deaths,
    nullif(l.pin, '') AS pin
FROM "durable".run AS r
LEFT JOIN "durable".lease AS l ON l.run_id = r.run_id
LEFT JOIN "durable".outcome AS o ON o.run_id = r.run_id;
