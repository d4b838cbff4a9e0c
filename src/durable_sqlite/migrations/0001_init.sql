-- Version 1: runs, leases, journals, inboxes. Never edited after a release: add 0002_*.sql.
--
-- What is written once stays apart from what changes: a step of a run writes one entry and one
-- small lease row, and an ended run costs nothing any more, because its lease row is gone.
-- Ids are text and sort by time, so that new rows land at the end of each tree. No foreign
-- keys: rows are only ever written by the adapter, all of a transition in one transaction.
-- WITHOUT ROWID keeps each row in its key's tree: one tree to write instead of two, and the
-- entries of a run beside each other. Times are ms since 1970 UTC.

-- What a run was started with. Insert only.
CREATE TABLE durable_run (
    run_id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    queue TEXT NOT NULL,
    input BLOB NOT NULL,
    input_encoding TEXT NOT NULL,
    digest TEXT NOT NULL,
    priority INTEGER NOT NULL,
    parent_id TEXT,
    parent_unit TEXT,
    depth INTEGER NOT NULL,
    attributes TEXT NOT NULL, -- JSON object of texts; a copy of durable_attribute, for reading
    deadline_at_ms INTEGER,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Listing, newest first. The workflow's name is in the index, so that listing one rare workflow
-- among millions of runs reads the index only.
CREATE INDEX durable_run_created ON durable_run (created_at_ms, run_id, workflow);

-- Listing the children of a run.
CREATE INDEX durable_run_parent ON durable_run (parent_id, created_at_ms)
    WHERE parent_id IS NOT NULL;

-- One row per live run: everything that changes while it lives.
CREATE TABLE durable_lease (
    run_id TEXT NOT NULL PRIMARY KEY,
    queue TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    pin TEXT NOT NULL, -- '' or the fingerprint a worker must have
    priority INTEGER NOT NULL,
    due_at_ms INTEGER, -- start, timer, retry, lease expiry; null: only a message moves the run
    anyone INTEGER NOT NULL, -- 1: a message came for which any worker may make the next claim
    deaths INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    arrived INTEGER NOT NULL, -- number of the newest message
    entry_count INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    status TEXT NOT NULL,
    waiting TEXT,
    failure TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Claims. One short range scan per queue, kind, pin and priority, in due order: runs of other
-- workers' kinds, of definitions this worker does not have, and runs not yet due are never
-- looked at, however many there are. The first run not yet due is the next time to look.
CREATE INDEX durable_lease_due
    ON durable_lease (queue, workflow, version, pin, priority, due_at_ms)
    WHERE due_at_ms IS NOT NULL;

-- The few runs that any worker may claim, and the few whose workers died.
CREATE INDEX durable_lease_anyone ON durable_lease (due_at_ms)
    WHERE anyone = 1 AND due_at_ms IS NOT NULL;
CREATE INDEX durable_lease_deaths ON durable_lease (deaths)
    WHERE deaths > 0 AND due_at_ms IS NOT NULL;

-- How a run ended. Its result is in its journal. Epoch, arrival number and the rest of the
-- lease row are kept for a run that is opened again.
CREATE TABLE durable_outcome (
    run_id TEXT NOT NULL PRIMARY KEY,
    parent_id TEXT, -- a copy of the run's, for pruning
    status TEXT NOT NULL,
    generation INTEGER NOT NULL,
    waiting TEXT,
    failure TEXT,
    entry_count INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Listing ended runs of one status, newest first.
CREATE INDEX durable_outcome_status ON durable_outcome (status, created_at_ms, run_id);

-- Pruning, oldest end first. All that decides stands in the index, so that runs which must stay,
-- because their parent is still there, are passed over quickly.
CREATE INDEX durable_outcome_finished
    ON durable_outcome (finished_at_ms, run_id, status, parent_id, entry_count);

-- The journal. Append only. The epoch tells who wrote an entry, for commits of unknown outcome.
CREATE TABLE durable_entry (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    unit TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    payload BLOB,
    encoding TEXT, -- of the payload; null with it
    meta TEXT,
    format INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

-- Messages until they are consumed.
CREATE TABLE durable_inbox (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    payload BLOB,
    encoding TEXT,
    meta TEXT,
    reopens INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

-- What outlives a consumed message that had a dedupe key, so that a late resend changes nothing.
CREATE TABLE durable_dedupe (
    run_id TEXT NOT NULL,
    dedupe TEXT NOT NULL,
    PRIMARY KEY (run_id, dedupe)
) STRICT, WITHOUT ROWID;

-- Suspension tokens: open while the digest is null, afterwards the digest of what used them.
CREATE TABLE durable_token (
    run_id TEXT NOT NULL,
    token TEXT NOT NULL,
    digest TEXT,
    PRIMARY KEY (run_id, token)
) STRICT, WITHOUT ROWID;

-- Attributes of runs, for listing by them, newest first.
CREATE TABLE durable_attribute (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (name, value, created_at_ms, run_id)
) STRICT, WITHOUT ROWID;

-- A run as one row, live or ended; also the place to look from a shell.
CREATE VIEW durable_record AS
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
    nullif(l.pin, '') AS pin,
    coalesce(l.arrived, o.arrived) AS arrived
FROM durable_run AS r
LEFT JOIN durable_lease AS l ON l.run_id = r.run_id
LEFT JOIN durable_outcome AS o ON o.run_id = r.run_id;
