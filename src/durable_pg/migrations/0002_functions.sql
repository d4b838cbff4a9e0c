-- durable: functions
-- Version 2: one function a verb, so that a verb is one statement, one round trip, one commit.
-- Never edited after a release: a changed function gets a new name in a new file, and the old one
-- stays as long as workers may call it.
--
-- They hold the store protocol's rules (durable_core.store) and nothing of the engine's. What
-- makes them right under concurrency, each rule learnt from a form that breaks:
--
-- 1. Every statement of a function sees a snapshot of its own (READ COMMITTED, which the adapter
--    insists on). So rows are locked in one statement and read in the next: a statement that
--    locks and reads may see a journal or an inbox older than the row it waited for.
-- 2. Rows that a verb may wait for are locked in one statement, in the order of their keys.
-- 3. Nothing else is waited for, except the start and the removal of a run of the same id. A
--    commit never waits for the runs its messages go to: a message whose run is locked by somebody
--    is posted instead, and put into the inbox by whoever next claims, or reads its mail. So no
--    two batches can wait for each other, and no caller's open transaction can hold up a worker.
--    A handler's own transaction holds its run's lease row for as long as it lasts: what waits for
--    that (a renewal, an answer to a token) has no other run in hand.
-- 4. All plans are index look-ups, whatever the statistics say: generic plans made on an empty
--    table, or scans chosen for one, would be kept for the life of a connection. The functions
--    that clients call say so for all that they call in turn.
--
-- "now" is the database's clock, read after locks were waited for; tests hand in their own.

CREATE FUNCTION "durable".now_ms_v1() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Let others hear, when the transaction has been committed, that something changed; answers whether
-- they will. A NOTIFY takes a lock of the whole cluster from before its transaction is flushed until
-- after, so of all verbs in a database one at a time may carry a ring. The others let hear of
-- themselves afterwards, by a transaction with nothing to flush. Nor may a ring be what fails: a
-- queue that fills because somebody listens and never reads refuses what it has no room for, and
-- for the lock of somebody else's NOTIFY, which is taken at the very end, is waited.
CREATE FUNCTION "durable".ring_v1(p_channel text, p_sender text) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    IF p_channel IS NULL
        OR pg_notification_queue_usage() > 0.5
        OR NOT pg_try_advisory_xact_lock(hashtextextended('durable: ring', 0))
    THEN
        RETURN false;
    END IF;
    PERFORM set_config('lock_timeout', '0', true), pg_notify(p_channel, p_sender);
    RETURN true;
END
$$;

-- Put one message into its run's inbox. The caller holds the lock of the run's lease row or, if
-- the run has ended, of its outcome row. "kept": the message was acknowledged before (it was
-- posted), so it is refused only as a duplicate. Answers in this order: 5 unknown; 1 duplicate
-- and 2 conflict; 4 finished; 3 stale; 6 full; 0 delivered.
CREATE FUNCTION "durable".put_v1(
    p_now bigint, p_limit bigint, p_kept boolean,
    p_run text, p_kind text, p_name text, p_payload bytea, p_encoding text, p_meta text,
    p_dedupe text, p_token text, p_digest text, p_reopens boolean, p_anyone boolean
) RETURNS smallint
LANGUAGE plpgsql
AS $$
DECLARE
    v_arrived bigint;
    v_live boolean := true;
    v_open boolean := false;
    v_used text;
BEGIN
    -- Most messages are plain, and go to a run that lives and has room: one statement does.
    IF p_token IS NULL AND p_dedupe IS NULL THEN
        WITH put AS (
            UPDATE "durable".lease l SET
                arrived = l.arrived + 1,
                anyone = l.anyone OR p_anyone,
                pin = '',
                due_at_ms = CASE
                    WHEN l.owner IS NULL THEN least(l.due_at_ms, p_now) ELSE l.due_at_ms
                END
            WHERE l.run_id = p_run AND (p_limit IS NULL OR p_kept OR l.arrived < p_limit)
            RETURNING l.arrived
        )
        INSERT INTO "durable".inbox (
            seq, at_ms, reopens, run_id, kind, name, encoding, meta, payload
        )
        SELECT
            put.arrived, p_now, p_reopens, p_run, p_kind, p_name, p_encoding, p_meta, p_payload
        FROM put;
        IF FOUND THEN
            RETURN 0;
        END IF;
    END IF;
    SELECT l.arrived INTO v_arrived FROM "durable".lease l WHERE l.run_id = p_run;
    IF NOT FOUND THEN
        v_live := false;
        SELECT o.arrived INTO v_arrived FROM "durable".outcome o WHERE o.run_id = p_run;
        IF NOT FOUND THEN
            RETURN 5;
        END IF;
    END IF;
    IF p_token IS NOT NULL THEN
        SELECT t.digest INTO v_used FROM "durable".token t
        WHERE t.run_id = p_run AND t.token = p_token;
        v_open := FOUND;
        IF v_used IS NOT NULL THEN
            RETURN CASE WHEN v_used = p_digest THEN 1 ELSE 2 END;
        END IF;
    END IF;
    IF p_dedupe IS NOT NULL AND EXISTS (
        SELECT 1 FROM "durable".dedupe d WHERE d.run_id = p_run AND d.dedupe = p_dedupe
    ) THEN
        RETURN 1;
    END IF;
    IF NOT v_live AND NOT p_reopens AND NOT p_kept THEN
        RETURN 4;
    END IF;
    IF p_token IS NOT NULL AND NOT v_open THEN
        RETURN 3;
    END IF;
    -- Only a run that ever got so many messages can have so many now.
    IF p_limit IS NOT NULL AND NOT p_kept AND v_arrived >= p_limit AND (
        SELECT count(*) >= p_limit FROM "durable".inbox i WHERE i.run_id = p_run
    ) THEN
        RETURN 6;
    END IF;
    v_arrived := v_arrived + 1;
    IF v_live THEN
        UPDATE "durable".lease l SET
            arrived = v_arrived,
            anyone = l.anyone OR p_anyone,
            pin = '',
            due_at_ms = CASE
                WHEN l.owner IS NULL THEN least(l.due_at_ms, p_now) ELSE l.due_at_ms
            END
        WHERE l.run_id = p_run;
    ELSIF p_reopens THEN
        WITH ended AS (DELETE FROM "durable".outcome o WHERE o.run_id = p_run RETURNING o.*)
        INSERT INTO "durable".lease (
            due_at_ms, epoch, arrived, entry_count, generation, deaths, priority, lane,
            created_at_ms, updated_at_ms, anyone, run_id, pin, owner, status, waiting, failure
        )
        SELECT
            p_now, o.epoch, v_arrived, o.entry_count, o.generation, 0, r.priority, r.lane,
            o.created_at_ms, p_now, p_anyone, p_run, '', NULL, 'pending', NULL, NULL
        FROM ended o JOIN "durable".run r ON r.run_id = o.run_id;
    ELSE
        UPDATE "durable".outcome o SET arrived = v_arrived WHERE o.run_id = p_run;
    END IF;
    INSERT INTO "durable".inbox (
        seq, at_ms, reopens, run_id, kind, name, encoding, meta, payload
    ) VALUES (
        v_arrived, p_now, p_reopens, p_run, p_kind, p_name, p_encoding, p_meta, p_payload
    );
    IF p_dedupe IS NOT NULL THEN
        INSERT INTO "durable".dedupe (run_id, dedupe) VALUES (p_run, p_dedupe);
    END IF;
    IF p_token IS NOT NULL THEN
        UPDATE "durable".token t SET digest = p_digest
        WHERE t.run_id = p_run AND t.token = p_token;
    END IF;
    RETURN 0;
END
$$;

-- Post one message: no lock that others want is taken, so the answer is what could be seen. Only a
-- removal of the run that is going on is waited for; it waits for nobody.
CREATE FUNCTION "durable".post_v1(
    p_now bigint, p_limit bigint,
    p_run text, p_kind text, p_name text, p_payload bytea, p_encoding text, p_meta text,
    p_dedupe text, p_token text, p_digest text, p_reopens boolean, p_anyone boolean
) RETURNS smallint
LANGUAGE plpgsql
AS $$
DECLARE
    v_arrived bigint;
    v_ended boolean;
    v_open boolean := false;
    v_used text;
BEGIN
    SELECT o.run_id IS NOT NULL AND l.run_id IS NULL, coalesce(l.arrived, o.arrived)
    INTO v_ended, v_arrived
    FROM "durable".run r
    LEFT JOIN "durable".lease l ON l.run_id = r.run_id
    LEFT JOIN "durable".outcome o ON o.run_id = r.run_id
    WHERE r.run_id = p_run;
    IF NOT FOUND THEN
        RETURN 5;
    END IF;
    IF p_token IS NOT NULL THEN
        SELECT t.digest INTO v_used FROM "durable".token t
        WHERE t.run_id = p_run AND t.token = p_token;
        v_open := FOUND;
        IF NOT FOUND OR v_used IS NULL THEN
            SELECT p.digest INTO v_used FROM "durable".posted p
            WHERE p.run_id = p_run AND p.token = p_token;
        END IF;
        IF v_used IS NOT NULL THEN
            RETURN CASE WHEN v_used = p_digest THEN 1 ELSE 2 END;
        END IF;
    END IF;
    IF p_dedupe IS NOT NULL AND (
        EXISTS (SELECT 1 FROM "durable".dedupe d WHERE d.run_id = p_run AND d.dedupe = p_dedupe)
        OR EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = p_run AND p.dedupe = p_dedupe)
    ) THEN
        RETURN 1;
    END IF;
    IF v_ended AND NOT p_reopens THEN
        RETURN 4;
    END IF;
    IF p_token IS NOT NULL AND NOT v_open THEN
        RETURN 3;
    END IF;
    IF p_limit IS NOT NULL AND (
        v_arrived >= p_limit
        OR EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = p_run)
    ) AND (
        SELECT count(*) FROM "durable".inbox i WHERE i.run_id = p_run
    ) + (
        SELECT count(*) FROM "durable".posted p WHERE p.run_id = p_run
    ) >= p_limit THEN
        RETURN 6;
    END IF;
    -- As a foreign key would, this keeps the run from being removed before the message is there.
    INSERT INTO "durable".posted (
        at_ms, reopens, anyone, run_id, kind, name, encoding, meta, dedupe, token, digest, payload
    )
    SELECT
        p_now, p_reopens, p_anyone, p_run, p_kind, p_name, p_encoding, p_meta, p_dedupe, p_token,
        p_digest, p_payload
    FROM "durable".run r WHERE r.run_id = p_run FOR KEY SHARE;
    RETURN CASE WHEN FOUND THEN 0 ELSE 5 END;
END
$$;

-- Put what was posted to these runs into their inboxes, as far as they are not locked by others.
CREATE FUNCTION "durable".route_v1(p_now bigint, p_runs text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_locked text[];
    v_ended text[];
    m record;
BEGIN
    SELECT coalesce(array_agg(x.run_id), '{}') INTO v_locked FROM (
        SELECT l.run_id FROM "durable".lease l
        WHERE l.run_id = ANY (p_runs) FOR NO KEY UPDATE SKIP LOCKED
    ) x;
    SELECT coalesce(array_agg(x.run_id), '{}') INTO v_ended FROM (
        SELECT o.run_id FROM "durable".outcome o
        WHERE o.run_id = ANY (p_runs) FOR UPDATE SKIP LOCKED
    ) x;
    FOR m IN
        WITH taken AS (
            DELETE FROM "durable".posted p WHERE p.run_id = ANY (v_locked || v_ended) RETURNING p.*
        )
        SELECT * FROM taken ORDER BY id
    LOOP
        PERFORM "durable".put_v1(
            p_now, NULL, true, m.run_id, m.kind, m.name, m.payload, m.encoding, m.meta, m.dedupe,
            m.token, m.digest, m.reopens, m.anyone
        );
    END LOOP;
    -- Of runs that are no more.
    DELETE FROM "durable".posted p
    WHERE p.run_id = ANY (p_runs)
        AND NOT EXISTS (SELECT 1 FROM "durable".run r WHERE r.run_id = p.run_id);
END
$$;

-- Deliver messages, in order. "wait" is whether those with a token wait for locked lease rows;
-- they do so before anything else is in hand.
CREATE FUNCTION "durable".deliver_v1(
    p_now bigint, p_limit bigint, p_wait boolean,
    m_run text[], m_kind text[], m_name text[], m_payload bytea[], m_encoding text[],
    m_meta text[], m_dedupe text[], m_token text[], m_digest text[], m_reopens boolean[],
    m_anyone boolean[]
) RETURNS smallint[]
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    v_now bigint;
    v_locked text[];
    v_ended text[] := '{}';
    v_verdicts smallint[] := '{}';
    m record;
BEGIN
    IF p_wait THEN
        PERFORM 1 FROM (
            SELECT 1 FROM "durable".lease l
            WHERE l.run_id = ANY (ARRAY(
                SELECT x.run_id FROM unnest(m_run, m_token) x (run_id, token)
                WHERE x.token IS NOT NULL
            ))
            ORDER BY l.run_id FOR NO KEY UPDATE
        ) locked;
    END IF;
    -- One alone, to a run that lives, needs none of the machinery that many need.
    IF cardinality(m_run) = 1 THEN
        PERFORM 1 FROM "durable".lease l WHERE l.run_id = m_run[1] FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND AND NOT EXISTS (
            SELECT 1 FROM "durable".posted p WHERE p.run_id = m_run[1]
        ) THEN
            RETURN ARRAY["durable".put_v1(
                coalesce(p_now, "durable".now_ms_v1()), p_limit, false, m_run[1], m_kind[1],
                m_name[1], m_payload[1], m_encoding[1], m_meta[1], m_dedupe[1], m_token[1],
                m_digest[1], m_reopens[1], m_anyone[1]
            )];
        END IF;
    END IF;
    SELECT coalesce(array_agg(x.run_id), '{}') INTO v_locked FROM (
        SELECT l.run_id FROM "durable".lease l WHERE l.run_id = ANY (m_run)
        FOR NO KEY UPDATE SKIP LOCKED
    ) x;
    IF cardinality(v_locked) < cardinality(m_run) THEN
        SELECT coalesce(array_agg(x.run_id), '{}') INTO v_ended FROM (
            SELECT o.run_id FROM "durable".outcome o
            WHERE o.run_id = ANY (m_run) AND o.run_id <> ALL (v_locked)
            FOR UPDATE SKIP LOCKED
        ) x;
    END IF;
    v_now := coalesce(p_now, "durable".now_ms_v1());
    -- What was posted before comes first: a sender's messages keep their order.
    IF EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = ANY (v_locked || v_ended)) THEN
        PERFORM "durable".route_v1(v_now, v_locked || v_ended);
    END IF;
    FOR m IN
        SELECT * FROM unnest(
            m_run, m_kind, m_name, m_payload, m_encoding, m_meta, m_dedupe, m_token, m_digest,
            m_reopens, m_anyone
        ) x (
            run_id, kind, name, payload, encoding, meta, dedupe, token, digest, reopens, anyone
        )
    LOOP
        IF m.run_id = ANY (v_locked) OR m.run_id = ANY (v_ended) THEN
            v_verdicts := v_verdicts || "durable".put_v1(
                v_now, p_limit, false, m.run_id, m.kind, m.name, m.payload, m.encoding, m.meta,
                m.dedupe, m.token, m.digest, m.reopens, m.anyone
            );
        ELSE
            v_verdicts := v_verdicts || "durable".post_v1(
                v_now, p_limit, m.run_id, m.kind, m.name, m.payload, m.encoding, m.meta,
                m.dedupe, m.token, m.digest, m.reopens, m.anyone
            );
        END IF;
    END LOOP;
    RETURN v_verdicts;
END
$$;

-- Post messages, in order, in a caller's own transaction: nothing is locked.
CREATE FUNCTION "durable".post_all_v1(
    p_now bigint, p_limit bigint,
    m_run text[], m_kind text[], m_name text[], m_payload bytea[], m_encoding text[],
    m_meta text[], m_dedupe text[], m_token text[], m_digest text[], m_reopens boolean[],
    m_anyone boolean[]
) RETURNS smallint[]
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    v_verdicts smallint[] := '{}';
    m record;
BEGIN
    FOR m IN
        SELECT * FROM unnest(
            m_run, m_kind, m_name, m_payload, m_encoding, m_meta, m_dedupe, m_token, m_digest,
            m_reopens, m_anyone
        ) x (
            run_id, kind, name, payload, encoding, meta, dedupe, token, digest, reopens, anyone
        )
    LOOP
        v_verdicts := v_verdicts || "durable".post_v1(
            coalesce(p_now, "durable".now_ms_v1()), p_limit, m.run_id, m.kind, m.name, m.payload,
            m.encoding, m.meta, m.dedupe, m.token, m.digest, m.reopens, m.anyone
        );
    END LOOP;
    RETURN v_verdicts;
END
$$;

-- Insert runs that are not there yet, in the order of their ids; gives the ids of those it made.
-- "n_of" is the commit a run belongs to; only those of applied ones are made (verdict 0).
CREATE FUNCTION "durable".insert_runs_v1(
    p_now bigint, p_verdicts smallint[], n_of bigint[],
    n_run text[], n_workflow text[], n_version text[], n_fingerprint text[], n_queue text[],
    n_lane bigint[], n_input bytea[], n_encoding text[], n_digest text[], n_priority bigint[],
    n_due_in bigint[], n_parent text[], n_parent_unit text[], n_depth bigint[],
    n_attributes text[], n_deadline bigint[], n_entries bigint[], n_owner text[],
    n_epoch bigint[], n_status text[],
    a_of bigint[], a_name text[], a_value text[], a_hash bigint[],
    e_of bigint[], e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[],
    e_at bigint[], e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[]
) RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_first bigint[];
    v_made text[];
    v_all boolean; -- then nobody is looked up in these arrays, which takes ever longer
BEGIN
    -- One call may name a run twice: the first counts.
    v_all := cardinality(n_run) = 1 AND p_verdicts[n_of[1]] = 0;
    IF NOT v_all THEN
        SELECT array_agg(x.nr) INTO v_first FROM (
            SELECT min(n.nr) AS nr
            FROM unnest(n_run, n_of) WITH ORDINALITY n (run_id, of, nr)
            WHERE p_verdicts[n.of] = 0
            GROUP BY n.run_id
        ) x;
        v_all := cardinality(v_first) = cardinality(n_run);
    END IF;
    IF v_all AND cardinality(n_run) = 1 AND cardinality(a_of) = 0 AND cardinality(e_of) = 0 THEN
        INSERT INTO "durable".run (
            created_at_ms, deadline_at_ms, priority, depth, lane, run_id, workflow, version,
            fingerprint, queue, digest, parent_id, parent_unit, attributes, input_encoding, input
        ) VALUES (
            p_now, n_deadline[1], n_priority[1], n_depth[1], n_lane[1], n_run[1], n_workflow[1],
            n_version[1], n_fingerprint[1], n_queue[1], n_digest[1], n_parent[1],
            n_parent_unit[1], n_attributes[1], n_encoding[1], n_input[1]
        )
        ON CONFLICT (run_id) DO NOTHING;
        IF NOT FOUND THEN
            RETURN '{}';
        END IF;
        INSERT INTO "durable".lease (
            due_at_ms, epoch, arrived, entry_count, generation, deaths, priority, lane,
            created_at_ms, updated_at_ms, anyone, run_id, pin, owner, status, waiting, failure
        ) VALUES (
            p_now + n_due_in[1], n_epoch[1], 0, n_entries[1], 1, 0, n_priority[1], n_lane[1],
            p_now, p_now, false, n_run[1], '', n_owner[1], n_status[1], NULL, NULL
        );
        RETURN n_run;
    END IF;
    WITH made AS (
        INSERT INTO "durable".run (
            created_at_ms, deadline_at_ms, priority, depth, lane, run_id, workflow, version,
            fingerprint, queue, digest, parent_id, parent_unit, attributes, input_encoding, input
        )
        SELECT
            p_now, n.deadline, n.priority, n.depth, n.lane, n.run_id, n.workflow, n.version,
            n.fingerprint, n.queue, n.digest, n.parent, n.parent_unit, n.attributes, n.encoding,
            n.input
        FROM unnest(
            n_run, n_workflow, n_version, n_fingerprint, n_queue, n_lane, n_input, n_encoding,
            n_digest, n_priority, n_parent, n_parent_unit, n_depth, n_attributes, n_deadline
        ) WITH ORDINALITY n (
            run_id, workflow, version, fingerprint, queue, lane, input, encoding, digest,
            priority, parent, parent_unit, depth, attributes, deadline, nr
        )
        WHERE v_all OR n.nr = ANY (v_first)
        ORDER BY n.run_id COLLATE "C"
        ON CONFLICT (run_id) DO NOTHING
        RETURNING run_id
    )
    SELECT array_agg(made.run_id) INTO v_made FROM made;
    IF v_made IS NULL THEN
        RETURN '{}';
    END IF;
    v_all := v_all AND cardinality(v_made) = cardinality(n_run);
    INSERT INTO "durable".lease (
        due_at_ms, epoch, arrived, entry_count, generation, deaths, priority, lane, created_at_ms,
        updated_at_ms, anyone, run_id, pin, owner, status, waiting, failure
    )
    SELECT
        p_now + n.due_in, n.epoch, 0, n.entries, 1, 0, n.priority, n.lane, p_now, p_now, false,
        n.run_id, '', n.owner, n.status, NULL, NULL
    FROM unnest(n_run, n_lane, n_priority, n_due_in, n_entries, n_owner, n_epoch, n_status)
        WITH ORDINALITY n (run_id, lane, priority, due_in, entries, owner, epoch, status, nr)
    WHERE v_all OR (n.nr = ANY (v_first) AND n.run_id = ANY (v_made));
    IF cardinality(a_of) > 0 THEN
        INSERT INTO "durable".attribute (created_at_ms, value_hash, run_id, name, value)
        SELECT p_now, a.hash, n.run_id, a.name, a.value
        FROM unnest(a_of, a_name, a_value, a_hash) a (of, name, value, hash)
        JOIN unnest(n_run) WITH ORDINALITY n (run_id, nr) ON n.nr = a.of
        WHERE v_all OR (a.of = ANY (v_first) AND n.run_id = ANY (v_made));
    END IF;
    IF cardinality(e_of) > 0 THEN
        INSERT INTO "durable".entry (
            seq, epoch, at_ms, attempt, format, run_id, kind, unit, encoding, meta, payload
        )
        SELECT e.seq, 0, e.at, e.attempt, e.format, n.run_id, e.kind, e.unit, e.encoding, e.meta,
            e.payload
        FROM unnest(
            e_of, e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding, e_meta, e_format
        ) e (of, seq, kind, unit, attempt, at, payload, encoding, meta, format)
        JOIN unnest(n_run) WITH ORDINALITY n (run_id, nr) ON n.nr = e.of
        WHERE v_all OR (e.of = ANY (v_first) AND n.run_id = ANY (v_made));
    END IF;
    RETURN v_made;
END
$$;

-- The verb "create". One row for each run it made, with id and time alone, and one for each that
-- was there before, with its record.
CREATE FUNCTION "durable".create_v1(
    p_now bigint,
    n_run text[], n_workflow text[], n_version text[], n_fingerprint text[], n_queue text[],
    n_lane bigint[], n_input bytea[], n_encoding text[], n_digest text[], n_priority bigint[],
    n_due_in bigint[], n_parent text[], n_parent_unit text[], n_depth bigint[],
    n_attributes text[], n_deadline bigint[], n_entries bigint[], n_owner text[],
    n_epoch bigint[], n_status text[],
    a_of bigint[], a_name text[], a_value text[], a_hash bigint[],
    e_of bigint[], e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[],
    e_at bigint[], e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[]
) RETURNS TABLE (
    made boolean, now_ms bigint,
    run_id text, workflow text, version text, fingerprint text, queue text, input bytea,
    input_encoding text, digest text, priority bigint, parent_id text, parent_unit text,
    depth bigint, attributes text, deadline_at_ms bigint, created_at_ms bigint,
    updated_at_ms bigint, finished_at_ms bigint, status text, generation bigint, waiting text,
    failure text, entry_count bigint, epoch bigint, owner text, due_at_ms bigint, deaths bigint,
    pin text
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := coalesce(p_now, "durable".now_ms_v1());
    v_made text[] := '{}';
    v_here text[];
BEGIN
    -- A run that was there may be pruned before it is read: then there is room for ours.
    FOR turn IN 1 .. 100 LOOP
        v_made := v_made || "durable".insert_runs_v1(
            v_now, '{0}', array_fill(1::bigint, ARRAY[cardinality(n_run)]),
            n_run, n_workflow, n_version, n_fingerprint, n_queue, n_lane, n_input, n_encoding,
            n_digest, n_priority, n_due_in, n_parent, n_parent_unit, n_depth, n_attributes,
            n_deadline, n_entries, n_owner, n_epoch, n_status, a_of, a_name, a_value, a_hash, e_of,
            e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding, e_meta, e_format
        );
        EXIT WHEN cardinality(v_made) = cardinality(n_run);
        v_here := ARRAY(SELECT r.run_id FROM "durable".run r WHERE r.run_id = ANY (n_run));
        EXIT WHEN v_here @> n_run;
    END LOOP;
    RETURN QUERY SELECT
        true, v_now, m.id, NULL::text, NULL::text, NULL::text, NULL::text, NULL::bytea, NULL::text,
        NULL::text, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::text, NULL::bigint,
        NULL::bigint, NULL::bigint, NULL::bigint, NULL::text, NULL::bigint, NULL::text, NULL::text,
        NULL::bigint, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint, NULL::text
    FROM unnest(v_made) m (id);
    IF cardinality(v_made) < cardinality(n_run) THEN
        RETURN QUERY SELECT false, v_now, r.*
        FROM "durable".record r WHERE r.run_id = ANY (n_run) AND r.run_id <> ALL (v_made);
    END IF;
END
$$;

-- Apply the transition of one run, without tokens and not renewing, as most are when a run is alone:
-- what apply_v1 does, with the same verdicts, by statements on single rows. The lease row is read as
-- it is when it is locked; what else is looked at, by later statements.
CREATE FUNCTION "durable".apply_one_v1(
    p_now bigint, p_run text, p_epoch bigint, p_after bigint, p_count bigint, p_status text,
    p_generation bigint, p_seen bigint, p_waiting text, p_failure text, p_finished boolean,
    p_released boolean, p_due bigint, p_pin text, p_not_before bigint,
    e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[], e_at bigint[],
    e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[],
    i_seq bigint[]
) RETURNS smallint
LANGUAGE plpgsql
AS $$
DECLARE
    v_now bigint;
    v_owner text;
    v_epoch bigint;
    v_count bigint;
    v_arrived bigint;
    v_due bigint := p_due;
BEGIN
    SELECT l.owner, l.epoch, l.entry_count, l.arrived INTO v_owner, v_epoch, v_count, v_arrived
    FROM "durable".lease l WHERE l.run_id = p_run FOR NO KEY UPDATE;
    IF v_owner IS NULL OR v_epoch <> p_epoch THEN
        RETURN 1;
    END IF;
    IF v_count <> p_after THEN
        RETURN 2;
    END IF;
    v_now := coalesce(p_now, "durable".now_ms_v1());
    IF p_not_before IS NOT NULL THEN
        IF v_now < p_not_before THEN
            RETURN 3;
        END IF;
        IF v_arrived > p_seen AND EXISTS (
            SELECT 1 FROM "durable".inbox i WHERE i.run_id = p_run AND i.seq > p_seen
        ) THEN
            RETURN 4;
        END IF;
        IF EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = p_run) THEN
            RETURN 4;
        END IF;
    END IF;
    IF p_count = 1 THEN
        INSERT INTO "durable".entry (
            seq, epoch, at_ms, attempt, format, run_id, kind, unit, encoding, meta, payload
        ) VALUES (
            e_seq[1], p_epoch, e_at[1], e_attempt[1], e_format[1], p_run, e_kind[1], e_unit[1],
            e_encoding[1], e_meta[1], e_payload[1]
        );
    ELSIF p_count > 1 THEN
        INSERT INTO "durable".entry (
            seq, epoch, at_ms, attempt, format, run_id, kind, unit, encoding, meta, payload
        )
        SELECT e.seq, p_epoch, e.at, e.attempt, e.format, p_run, e.kind, e.unit, e.encoding,
            e.meta, e.payload
        FROM unnest(
            e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding, e_meta, e_format
        ) e (seq, kind, unit, attempt, at, payload, encoding, meta, format);
    END IF;
    IF cardinality(i_seq) > 0 THEN
        DELETE FROM "durable".inbox i WHERE i.run_id = p_run AND i.seq = ANY (i_seq);
    END IF;
    IF NOT p_finished THEN
        IF p_released AND v_arrived > p_seen AND EXISTS (
            SELECT 1 FROM "durable".inbox i WHERE i.run_id = p_run AND i.seq > p_seen
        ) THEN
            v_due := least(p_due, v_now);
        END IF;
        UPDATE "durable".lease l SET
            entry_count = p_after + p_count,
            deaths = CASE WHEN p_count > 0 THEN 0 ELSE l.deaths END,
            status = p_status,
            generation = p_generation,
            waiting = p_waiting,
            failure = CASE WHEN l.failure = p_failure THEN l.failure ELSE p_failure END,
            updated_at_ms = v_now,
            owner = CASE WHEN p_released THEN NULL ELSE l.owner END,
            pin = CASE WHEN p_released THEN p_pin ELSE l.pin END,
            due_at_ms = CASE WHEN p_released THEN v_due ELSE l.due_at_ms END
        WHERE l.run_id = p_run;
        RETURN 0;
    END IF;
    DELETE FROM "durable".token t WHERE t.run_id = p_run AND t.digest IS NULL;
    IF v_arrived > p_seen AND EXISTS (
        SELECT 1 FROM "durable".inbox i
        WHERE i.run_id = p_run AND i.seq > p_seen AND i.reopens
    ) THEN
        UPDATE "durable".lease l SET
            entry_count = p_after + p_count, generation = p_generation, updated_at_ms = v_now,
            status = 'pending', waiting = NULL, failure = NULL, owner = NULL, deaths = 0, pin = '',
            due_at_ms = v_now
        WHERE l.run_id = p_run;
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM "durable".lease l WHERE l.run_id = p_run
        RETURNING l.epoch, l.arrived, l.created_at_ms
    )
    INSERT INTO "durable".outcome (
        finished_at_ms, created_at_ms, epoch, arrived, entry_count, generation, run_id, parent_id,
        status, waiting, failure
    )
    SELECT v_now, g.created_at_ms, g.epoch, g.arrived, p_after + p_count, p_generation, p_run,
        r.parent_id, p_status, p_waiting, p_failure
    FROM gone g
    JOIN "durable".run r ON r.run_id = p_run;
    RETURN 0;
END
$$;

-- Apply transitions of different runs: entries, lease rows, consumed messages, tokens. Verdicts:
-- 0 applied, 1 fenced, 2 conflict, 3 early, 4 unheard.
CREATE FUNCTION "durable".apply_v1(
    p_now bigint,
    c_run text[], c_epoch bigint[], c_after bigint[], c_count bigint[], c_status text[],
    c_generation bigint[], c_seen bigint[], c_waiting text[], c_failure text[],
    c_finished boolean[], c_released boolean[], c_due bigint[], c_pin text[], c_renews boolean[],
    c_not_before bigint[],
    e_of bigint[], e_run text[], e_epoch bigint[], e_seq bigint[], e_kind text[], e_unit text[],
    e_attempt bigint[], e_at bigint[], e_payload bytea[], e_encoding text[], e_meta text[],
    e_format bigint[],
    i_of bigint[], i_run text[], i_seq bigint[],
    t_of bigint[], t_run text[], t_token text[], t_opened boolean[]
) RETURNS smallint[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_now bigint;
    v_verdicts smallint[];
BEGIN
    IF cardinality(c_run) = 1 AND cardinality(t_of) = 0 AND NOT c_renews[1] THEN
        RETURN ARRAY["durable".apply_one_v1(
            p_now, c_run[1], c_epoch[1], c_after[1], c_count[1], c_status[1], c_generation[1],
            c_seen[1], c_waiting[1], c_failure[1], c_finished[1], c_released[1], c_due[1],
            c_pin[1], c_not_before[1], e_seq, e_kind, e_unit, e_attempt, e_at, e_payload,
            e_encoding, e_meta, e_format, i_seq
        )];
    END IF;
    -- FOR UPDATE excludes FOR NO KEY UPDATE, so this is the fence: whoever takes the run over
    -- waits for us, or we see its epoch.
    PERFORM 1 FROM (
        SELECT 1 FROM "durable".lease l WHERE l.run_id = ANY (c_run)
        ORDER BY l.run_id FOR NO KEY UPDATE
    ) locked;
    v_now := coalesce(p_now, "durable".now_ms_v1());
    SELECT array_agg(
        CASE
            WHEN l.owner IS NULL OR l.epoch <> c.epoch THEN 1
            WHEN l.entry_count <> c.after THEN 2
            WHEN c.not_before IS NULL THEN 0
            WHEN v_now < c.not_before THEN 3
            WHEN l.arrived > c.seen AND EXISTS (
                SELECT 1 FROM "durable".inbox i WHERE i.run_id = l.run_id AND i.seq > c.seen
            ) THEN 4
            WHEN EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = l.run_id) THEN 4
            ELSE 0
        END::smallint ORDER BY c.nr
    ) INTO v_verdicts
    FROM unnest(c_run, c_epoch, c_after, c_seen, c_not_before)
        WITH ORDINALITY c (run_id, epoch, after, seen, not_before, nr)
    LEFT JOIN "durable".lease l ON l.run_id = c.run_id;
    IF true = ANY (c_renews) THEN
        DELETE FROM "durable".entry e
        USING unnest(c_run, c_after, c_renews) WITH ORDINALITY c (run_id, after, renews, nr)
        WHERE c.renews AND v_verdicts[c.nr] = 0 AND e.run_id = c.run_id AND e.seq <= c.after;
    END IF;
    IF cardinality(e_of) > 0 THEN
        INSERT INTO "durable".entry (
            seq, epoch, at_ms, attempt, format, run_id, kind, unit, encoding, meta, payload
        )
        SELECT e.seq, e.epoch, e.at, e.attempt, e.format, e.run_id, e.kind, e.unit, e.encoding,
            e.meta, e.payload
        FROM unnest(
            e_of, e_run, e_epoch, e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding,
            e_meta, e_format
        ) e (of, run_id, epoch, seq, kind, unit, attempt, at, payload, encoding, meta, format)
        WHERE v_verdicts[e.of] = 0;
    END IF;
    IF cardinality(i_of) > 0 THEN
        DELETE FROM "durable".inbox i
        USING unnest(i_of, i_run, i_seq) c (of, run_id, seq)
        WHERE i.run_id = c.run_id AND i.seq = c.seq AND v_verdicts[c.of] = 0;
    END IF;
    IF cardinality(t_of) > 0 THEN
        INSERT INTO "durable".token (run_id, token)
        SELECT DISTINCT t.run_id, t.token
        FROM unnest(t_of, t_run, t_token, t_opened) t (of, run_id, token, opened)
        WHERE t.opened AND v_verdicts[t.of] = 0
        ON CONFLICT (run_id, token) DO NOTHING;
        DELETE FROM "durable".token o
        USING unnest(t_of, t_run, t_token, t_opened) t (of, run_id, token, opened)
        WHERE NOT t.opened AND v_verdicts[t.of] = 0
            AND o.run_id = t.run_id AND o.token = t.token AND o.digest IS NULL;
    END IF;
    -- What nobody has seen yet must not be slept over. The counter alone does not tell: of what
    -- was consumed under earlier epochs, the holder has seen nothing.
    UPDATE "durable".lease l SET
        entry_count = c.after + c.count,
        deaths = CASE WHEN c.count > 0 THEN 0 ELSE l.deaths END,
        status = c.status,
        generation = c.generation,
        waiting = c.waiting,
        failure = CASE WHEN l.failure = c.failure THEN l.failure ELSE c.failure END,
        updated_at_ms = v_now,
        owner = CASE WHEN c.released THEN NULL ELSE l.owner END,
        pin = CASE WHEN c.released THEN c.pin ELSE l.pin END,
        due_at_ms = CASE
            WHEN NOT c.released THEN l.due_at_ms
            WHEN l.arrived > c.seen AND EXISTS (
                SELECT 1 FROM "durable".inbox i WHERE i.run_id = l.run_id AND i.seq > c.seen
            ) THEN least(c.due, v_now)
            ELSE c.due
        END
    FROM unnest(
        c_run, c_after, c_count, c_status, c_generation, c_seen, c_waiting, c_failure, c_released,
        c_due, c_pin
    ) WITH ORDINALITY c (
        run_id, after, count, status, generation, seen, waiting, failure, released, due, pin, nr
    )
    WHERE l.run_id = c.run_id AND v_verdicts[c.nr] = 0 AND NOT c_finished[c.nr];
    IF true = ANY (c_finished) THEN
        DELETE FROM "durable".token t
        USING unnest(c_run) WITH ORDINALITY c (run_id, nr)
        WHERE t.run_id = c.run_id AND t.digest IS NULL
            AND v_verdicts[c.nr] = 0 AND c_finished[c.nr];
        -- An unseen message that reopens makes of the end a new beginning.
        UPDATE "durable".lease l SET
            entry_count = c.after + c.count, generation = c.generation, updated_at_ms = v_now,
            status = 'pending', waiting = NULL, failure = NULL, owner = NULL, deaths = 0, pin = '',
            due_at_ms = v_now
        FROM unnest(c_run, c_after, c_count, c_generation, c_seen)
            WITH ORDINALITY c (run_id, after, count, generation, seen, nr)
        WHERE l.run_id = c.run_id AND v_verdicts[c.nr] = 0 AND c_finished[c.nr]
            AND l.arrived > c.seen
            AND EXISTS (
                SELECT 1 FROM "durable".inbox i
                WHERE i.run_id = l.run_id AND i.seq > c.seen AND i.reopens
            );
        -- All that the outcome says comes along: a join afterwards would compare each with each.
        WITH gone AS (
            DELETE FROM "durable".lease l
            USING unnest(
                c_run, c_after, c_count, c_generation, c_status, c_waiting, c_failure
            ) WITH ORDINALITY c (
                run_id, after, count, generation, status, waiting, failure, nr
            )
            WHERE l.run_id = c.run_id AND v_verdicts[c.nr] = 0 AND c_finished[c.nr]
                AND l.owner IS NOT NULL
            RETURNING l.run_id, l.epoch, l.arrived, l.created_at_ms,
                c.after + c.count AS entry_count, c.generation, c.status, c.waiting, c.failure
        )
        INSERT INTO "durable".outcome (
            finished_at_ms, created_at_ms, epoch, arrived, entry_count, generation, run_id,
            parent_id, status, waiting, failure
        )
        SELECT v_now, g.created_at_ms, g.epoch, g.arrived, g.entry_count, g.generation, g.run_id,
            r.parent_id, g.status, g.waiting, g.failure
        FROM gone g
        JOIN "durable".run r ON r.run_id = g.run_id;
    END IF;
    RETURN v_verdicts;
END
$$;

-- The verb "commit", of different runs. One row with time and verdicts, and one for each message
-- that the holders of these runs have not seen.
CREATE FUNCTION "durable".commit_v1(
    p_now bigint,
    c_run text[], c_epoch bigint[], c_after bigint[], c_count bigint[], c_status text[],
    c_generation bigint[], c_seen bigint[], c_waiting text[], c_failure text[],
    c_finished boolean[], c_released boolean[], c_due bigint[], c_pin text[], c_renews boolean[],
    c_not_before bigint[],
    e_of bigint[], e_run text[], e_epoch bigint[], e_seq bigint[], e_kind text[], e_unit text[],
    e_attempt bigint[], e_at bigint[], e_payload bytea[], e_encoding text[], e_meta text[],
    e_format bigint[],
    i_of bigint[], i_run text[], i_seq bigint[]
) RETURNS TABLE (
    verdicts smallint[], now_ms bigint,
    run_id text, seq bigint, kind text, name text, at_ms bigint, payload bytea, encoding text,
    meta text
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_verdicts smallint[] := "durable".apply_v1(
        p_now, c_run, c_epoch, c_after, c_count, c_status, c_generation, c_seen, c_waiting,
        c_failure, c_finished, c_released, c_due, c_pin, c_renews, c_not_before, e_of, e_run, e_epoch,
        e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding, e_meta, e_format, i_of, i_run, i_seq,
        '{}', '{}', '{}', '{}'
    );
BEGIN
    RETURN QUERY SELECT
        v_verdicts, coalesce(p_now, "durable".now_ms_v1()),
        NULL::text, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::bytea, NULL::text,
        NULL::text;
    RETURN QUERY SELECT
        NULL::smallint[], NULL::bigint,
        i.run_id, i.seq, i.kind, i.name, i.at_ms, i.payload, i.encoding, i.meta
    FROM unnest(c_run, c_seen) WITH ORDINALITY c (run_id, seen, nr)
    JOIN "durable".lease l
        ON l.run_id = c.run_id AND l.owner IS NOT NULL AND l.arrived > c.seen
    JOIN "durable".inbox i ON i.run_id = c.run_id AND i.seq > c.seen
    WHERE v_verdicts[c.nr] = 0
    ORDER BY c.nr, i.seq;
END
$$;

-- The same with tokens, children and messages to other runs, which most commits do without.
CREATE FUNCTION "durable".commit_all_v1(
    p_now bigint,
    c_run text[], c_epoch bigint[], c_after bigint[], c_count bigint[], c_status text[],
    c_generation bigint[], c_seen bigint[], c_waiting text[], c_failure text[],
    c_finished boolean[], c_released boolean[], c_due bigint[], c_pin text[], c_renews boolean[],
    c_not_before bigint[],
    e_of bigint[], e_run text[], e_epoch bigint[], e_seq bigint[], e_kind text[], e_unit text[],
    e_attempt bigint[], e_at bigint[], e_payload bytea[], e_encoding text[], e_meta text[],
    e_format bigint[],
    i_of bigint[], i_run text[], i_seq bigint[],
    t_of bigint[], t_run text[], t_token text[], t_opened boolean[],
    n_of bigint[],
    n_run text[], n_workflow text[], n_version text[], n_fingerprint text[], n_queue text[],
    n_lane bigint[], n_input bytea[], n_encoding text[], n_digest text[], n_priority bigint[],
    n_due_in bigint[], n_parent text[], n_parent_unit text[], n_depth bigint[],
    n_attributes text[], n_deadline bigint[], n_entries bigint[], n_owner text[],
    n_epoch bigint[], n_status text[],
    a_of bigint[], a_name text[], a_value text[], a_hash bigint[],
    x_of bigint[], x_seq bigint[], x_kind text[], x_unit text[], x_attempt bigint[],
    x_at bigint[], x_payload bytea[], x_encoding text[], x_meta text[], x_format bigint[],
    m_of bigint[], m_run text[], m_kind text[], m_name text[], m_payload bytea[],
    m_encoding text[], m_meta text[], m_dedupe text[], m_token text[], m_digest text[],
    m_reopens boolean[], m_anyone boolean[]
) RETURNS TABLE (
    verdicts smallint[], now_ms bigint,
    run_id text, seq bigint, kind text, name text, at_ms bigint, payload bytea, encoding text,
    meta text
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_verdicts smallint[];
BEGIN
    v_verdicts := "durable".apply_v1(
        p_now, c_run, c_epoch, c_after, c_count, c_status, c_generation, c_seen, c_waiting,
        c_failure, c_finished, c_released, c_due, c_pin, c_renews, c_not_before, e_of, e_run, e_epoch,
        e_seq, e_kind, e_unit, e_attempt, e_at, e_payload, e_encoding, e_meta, e_format, i_of, i_run, i_seq, t_of,
        t_run, t_token, t_opened
    );
    v_now := coalesce(p_now, "durable".now_ms_v1());
    IF cardinality(n_of) > 0 THEN
        PERFORM "durable".insert_runs_v1(
            v_now, v_verdicts, n_of, n_run, n_workflow, n_version, n_fingerprint, n_queue, n_lane,
            n_input, n_encoding, n_digest, n_priority, n_due_in, n_parent, n_parent_unit, n_depth,
            n_attributes, n_deadline, n_entries, n_owner, n_epoch, n_status, a_of, a_name, a_value, a_hash, x_of, x_seq,
            x_kind, x_unit, x_attempt, x_at, x_payload, x_encoding, x_meta, x_format
        );
    END IF;
    IF cardinality(m_of) > 0 THEN
        PERFORM "durable".deliver_v1(
            v_now, NULL, false,
            array_agg(m.run_id ORDER BY m.nr), array_agg(m.kind ORDER BY m.nr),
            array_agg(m.name ORDER BY m.nr), array_agg(m.payload ORDER BY m.nr),
            array_agg(m.encoding ORDER BY m.nr), array_agg(m.meta ORDER BY m.nr),
            array_agg(m.dedupe ORDER BY m.nr), array_agg(m.token ORDER BY m.nr),
            array_agg(m.digest ORDER BY m.nr), array_agg(m.reopens ORDER BY m.nr),
            array_agg(m.anyone ORDER BY m.nr)
        )
        FROM unnest(
            m_of, m_run, m_kind, m_name, m_payload, m_encoding, m_meta, m_dedupe, m_token,
            m_digest, m_reopens, m_anyone
        ) WITH ORDINALITY m (
            of, run_id, kind, name, payload, encoding, meta, dedupe, token, digest, reopens,
            anyone, nr
        )
        WHERE v_verdicts[m.of] = 0
        HAVING count(*) > 0;
    END IF;
    RETURN QUERY SELECT
        v_verdicts, v_now,
        NULL::text, NULL::bigint, NULL::text, NULL::text, NULL::bigint, NULL::bytea, NULL::text,
        NULL::text;
    RETURN QUERY SELECT
        NULL::smallint[], NULL::bigint,
        i.run_id, i.seq, i.kind, i.name, i.at_ms, i.payload, i.encoding, i.meta
    FROM unnest(c_run, c_seen) WITH ORDINALITY c (run_id, seen, nr)
    JOIN "durable".lease l
        ON l.run_id = c.run_id AND l.owner IS NOT NULL AND l.arrived > c.seen
    JOIN "durable".inbox i ON i.run_id = c.run_id AND i.seq > c.seen
    WHERE v_verdicts[c.nr] = 0
    ORDER BY c.nr, i.seq;
END
$$;

-- Which due runs a worker takes: their ids, best first, locked.
--
-- The heads of the groups (lane, pin, priority) it may claim from are read without locking and
-- merged by rank (due time less a minute for each step of priority). Then as many as the merge
-- chose are taken from each group, passing over rows that others hold: claimers that come at the
-- same moment share what is due instead of queueing for the same rows.
CREATE FUNCTION "durable".choose_v1(
    p_now bigint, p_limit bigint, l_lane bigint[], l_pin text[], g_lane bigint[], g_pin text[],
    g_priority bigint[], p_suspect_deaths bigint, p_suspects bigint
) RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_chosen text[];
BEGIN
    WITH head AS (
        SELECT g.nr, d.run_id, d.due_at_ms - g.priority * 60000 AS rank
        FROM unnest(g_lane, g_pin, g_priority) WITH ORDINALITY g (lane, pin, priority, nr)
        CROSS JOIN LATERAL (
            SELECT l.run_id, l.due_at_ms FROM "durable".lease l
            WHERE l.lane = g.lane AND l.pin = g.pin AND l.priority = g.priority
                AND l.due_at_ms <= p_now AND l.deaths < p_suspect_deaths
            ORDER BY l.due_at_ms, l.run_id LIMIT p_limit
        ) d
    ),
    anyone AS (
        SELECT 0::bigint AS nr, l.run_id, l.due_at_ms - l.priority * 60000 AS rank
        FROM "durable".lease l
        WHERE l.anyone AND l.due_at_ms <= p_now AND l.deaths < p_suspect_deaths
        ORDER BY rank, l.run_id LIMIT p_limit
    ),
    suspect AS (
        SELECT 0::bigint AS nr, l.run_id, l.due_at_ms - l.priority * 60000 AS rank
        FROM "durable".lease l
        WHERE l.deaths > 0 AND l.deaths >= p_suspect_deaths AND l.due_at_ms <= p_now
            AND (l.anyone OR EXISTS (
                SELECT 1 FROM unnest(l_lane, l_pin) k (lane, pin)
                WHERE k.lane = l.lane AND k.pin = l.pin
            ))
        ORDER BY rank, l.run_id LIMIT p_suspects
    ),
    best AS (
        SELECT x.run_id, max(x.nr) AS nr, x.rank
        FROM (
            SELECT * FROM head UNION ALL SELECT * FROM anyone UNION ALL SELECT * FROM suspect
        ) x
        GROUP BY x.run_id, x.rank
        ORDER BY x.rank, x.run_id LIMIT p_limit
    ),
    taken AS (
        SELECT d.run_id, d.due_at_ms - q.priority * 60000 AS rank
        FROM (
            SELECT g.lane, g.pin, g.priority, count(*) AS quota
            FROM best b
            JOIN unnest(g_lane, g_pin, g_priority)
                WITH ORDINALITY g (lane, pin, priority, nr) ON g.nr = b.nr
            GROUP BY g.lane, g.pin, g.priority
        ) q
        CROSS JOIN LATERAL (
            SELECT l.run_id, l.due_at_ms FROM "durable".lease l
            WHERE l.lane = q.lane AND l.pin = q.pin AND l.priority = q.priority
                AND l.due_at_ms <= p_now AND l.deaths < p_suspect_deaths
            ORDER BY l.due_at_ms, l.run_id LIMIT q.quota FOR NO KEY UPDATE SKIP LOCKED
        ) d
        UNION
        SELECT d.run_id, b.rank
        FROM best b
        CROSS JOIN LATERAL (
            SELECT l.run_id FROM "durable".lease l
            WHERE l.run_id = b.run_id AND l.due_at_ms <= p_now
                AND (l.anyone OR l.deaths >= p_suspect_deaths)
            FOR NO KEY UPDATE SKIP LOCKED
        ) d
        WHERE b.nr = 0
    )
    SELECT array_agg(t.run_id ORDER BY t.rank, t.run_id) INTO v_chosen FROM taken t;
    RETURN v_chosen;
END
$$;

-- Runs that were just claimed, in this order, with their journals and inboxes as arrays. It is part
-- of the statement that calls it (it is inlined), so it sees what that sees.
CREATE FUNCTION "durable".claimed_v1(p_chosen text[], p_journal_limit bigint) RETURNS TABLE (
    run_id text, workflow text, version text, fingerprint text, queue text, input bytea,
    input_encoding text, digest text, priority bigint, parent_id text, parent_unit text,
    depth bigint, attributes text, deadline_at_ms bigint, created_at_ms bigint,
    updated_at_ms bigint, finished_at_ms bigint, status text, generation bigint, waiting text,
    failure text, entry_count bigint, epoch bigint, owner text, due_at_ms bigint, deaths bigint,
    pin text,
    e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[], e_at bigint[],
    e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[],
    i_seq bigint[], i_kind text[], i_name text[], i_at bigint[], i_payload bytea[],
    i_encoding text[], i_meta text[]
)
LANGUAGE sql STABLE
AS $$
    SELECT
        r.run_id, r.workflow, r.version, r.fingerprint, r.queue, r.input, r.input_encoding,
        r.digest, r.priority, r.parent_id, r.parent_unit, r.depth, r.attributes, r.deadline_at_ms,
        r.created_at_ms, l.updated_at_ms, NULL::bigint, l.status, l.generation, l.waiting,
        l.failure, l.entry_count, l.epoch, l.owner, l.due_at_ms, l.deaths, nullif(l.pin, ''),
        e.seqs, e.kinds, e.units, e.attempts, e.ats, e.payloads, e.encodings, e.metas, e.formats,
        i.seqs, i.kinds, i.names, i.ats, i.payloads, i.encodings, i.metas
    FROM unnest(p_chosen) WITH ORDINALITY c (run_id, nr)
    JOIN "durable".run r ON r.run_id = c.run_id
    JOIN "durable".lease l ON l.run_id = c.run_id
    CROSS JOIN LATERAL (
        SELECT
            array_agg(o.seq) AS seqs, array_agg(o.kind) AS kinds, array_agg(o.unit) AS units,
            array_agg(o.attempt) AS attempts, array_agg(o.at_ms) AS ats,
            array_agg(o.payload) AS payloads, array_agg(o.encoding) AS encodings,
            array_agg(o.meta) AS metas, array_agg(o.format) AS formats
        FROM (
            SELECT * FROM "durable".entry n
            WHERE n.run_id = c.run_id ORDER BY n.seq LIMIT p_journal_limit
        ) o
        WHERE l.entry_count > 0
    ) e
    CROSS JOIN LATERAL (
        SELECT
            array_agg(o.seq) AS seqs, array_agg(o.kind) AS kinds, array_agg(o.name) AS names,
            array_agg(o.at_ms) AS ats, array_agg(o.payload) AS payloads,
            array_agg(o.encoding) AS encodings, array_agg(o.meta) AS metas
        FROM (
            SELECT * FROM "durable".inbox n WHERE n.run_id = c.run_id ORDER BY n.seq
        ) o
        WHERE l.arrived > 0
    ) i
    ORDER BY c.nr
$$;

-- The verb "claim". One row for each claimed run, best first, with its journal and inbox as
-- arrays; the first row has the time and when to look again, and no run. "mark": as the protocol's
-- "next_epoch" says.
--
-- It does not wait for its flush, whatever the session does: it acknowledges nothing to a user.
-- What is committed under it, or by anybody who has seen it, comes behind it in the log, and is
-- flushed with it or not at all. If a crash takes it, all is as it was before: the run is due,
-- messages that were routed are posted, a death is not counted. The next claim has another mark,
-- so whoever had the lost one is fenced.
CREATE FUNCTION "durable".claim_v1(
    p_now bigint, p_worker text, p_lease_ms bigint, p_limit bigint,
    l_lane bigint[], l_pin text[], p_suspect_deaths bigint, p_suspects bigint,
    p_journal_limit bigint, p_mark bigint
) RETURNS TABLE (
    now_ms bigint, next_due_ms bigint,
    run_id text, workflow text, version text, fingerprint text, queue text, input bytea,
    input_encoding text, digest text, priority bigint, parent_id text, parent_unit text,
    depth bigint, attributes text, deadline_at_ms bigint, created_at_ms bigint,
    updated_at_ms bigint, finished_at_ms bigint, status text, generation bigint, waiting text,
    failure text, entry_count bigint, epoch bigint, owner text, due_at_ms bigint, deaths bigint,
    pin text,
    e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[], e_at bigint[],
    e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[],
    i_seq bigint[], i_kind text[], i_name text[], i_at bigint[], i_payload bytea[],
    i_encoding text[], i_meta text[]
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := coalesce(p_now, "durable".now_ms_v1());
    v_lane bigint[];
    v_pin text[];
    v_priority bigint[];
    v_due bigint[];
    v_ready bigint;
    v_odd boolean;
    v_posted boolean;
    v_chosen text[];
    v_next bigint;
    v_receivers text[];
    v_again bigint;
BEGIN
    FOR turn IN 1 .. 2 LOOP
        -- The groups that hold any run with a due time, and what is due first in each: a skip scan.
        -- And whether there is anything but runs of these groups: mostly not, and then little is
        -- left to ask. (Each statement, and each branch of one, costs more to begin than to run.)
        WITH RECURSIVE groups AS (
            SELECT k.lane, k.pin COLLATE "C" AS pin, g.priority, g.due_at_ms
            FROM unnest(l_lane, l_pin) k (lane, pin)
            CROSS JOIN LATERAL (
                SELECT l.priority, l.due_at_ms FROM "durable".lease l
                WHERE l.lane = k.lane AND l.pin = k.pin AND l.due_at_ms IS NOT NULL
                ORDER BY l.priority, l.due_at_ms LIMIT 1
            ) g
            UNION ALL
            SELECT p.lane, p.pin, g.priority, g.due_at_ms
            FROM groups p
            CROSS JOIN LATERAL (
                SELECT l.priority, l.due_at_ms FROM "durable".lease l
                WHERE l.lane = p.lane AND l.pin = p.pin AND l.priority > p.priority
                    AND l.due_at_ms IS NOT NULL
                ORDER BY l.priority, l.due_at_ms LIMIT 1
            ) g
        )
        SELECT
            array_agg(g.lane), array_agg(g.pin), array_agg(g.priority), array_agg(g.due_at_ms),
            count(*) FILTER (WHERE g.due_at_ms <= v_now),
            EXISTS (
                SELECT 1 FROM "durable".lease l WHERE l.anyone AND l.due_at_ms IS NOT NULL
            ) OR EXISTS (
                SELECT 1 FROM "durable".lease l
                WHERE l.deaths > 0 AND l.deaths >= p_suspect_deaths AND l.due_at_ms IS NOT NULL
            ),
            EXISTS (SELECT 1 FROM "durable".posted)
        INTO v_lane, v_pin, v_priority, v_due, v_ready, v_odd, v_posted
        FROM (SELECT * FROM groups ORDER BY groups.due_at_ms) g;
        EXIT WHEN NOT v_posted;
        IF turn = 2 THEN
            -- There may be more of them; or some are in other hands, and nobody tells us when
            -- these let go.
            v_again := v_now + CASE WHEN cardinality(v_receivers) < 200 THEN 100 ELSE 0 END;
            EXIT;
        END IF;
        -- A skip scan, because one run may have got very many.
        v_receivers := ARRAY(
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
        );
        PERFORM "durable".route_v1(v_now, v_receivers);
    END LOOP;
    IF v_odd OR v_ready > 1 THEN
        IF p_limit > 0 THEN
            v_chosen := "durable".choose_v1(
                v_now, p_limit, l_lane, l_pin, v_lane, v_pin, v_priority, p_suspect_deaths,
                p_suspects
            );
        END IF;
    ELSIF v_ready = 1 AND p_limit > 0 THEN
        -- What "choose_v1" would take, if there is but one group to take from.
        SELECT array_agg(x.run_id) INTO v_chosen FROM (
            SELECT l.run_id FROM "durable".lease l
            WHERE l.lane = v_lane[1] AND l.pin = v_pin[1] AND l.priority = v_priority[1]
                AND l.due_at_ms <= v_now AND l.deaths < p_suspect_deaths
            ORDER BY l.due_at_ms, l.run_id LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
        ) x;
    END IF;
    IF v_chosen IS NOT NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE "durable".lease l SET
            epoch = coalesce((l.epoch / 4294967296 + 1) * 4294967296 + p_mark, l.epoch + 1),
            deaths = l.deaths + CASE WHEN l.owner <> p_worker THEN 1 ELSE 0 END,
            owner = p_worker,
            anyone = false,
            due_at_ms = v_now + p_lease_ms,
            updated_at_ms = v_now,
            status = CASE WHEN l.status IN ('pending', 'suspended') THEN 'running' ELSE l.status END
        WHERE l.run_id = ANY (v_chosen);
    END IF;
    IF v_odd OR v_ready > 1 THEN
        SELECT min(x.due_at_ms) INTO v_next FROM (
            SELECT h.due_at_ms
            FROM unnest(v_lane, v_pin, v_priority) g (lane, pin, priority)
            CROSS JOIN LATERAL (
                SELECT l.due_at_ms FROM "durable".lease l
                WHERE l.lane = g.lane AND l.pin = g.pin AND l.priority = g.priority
                    AND l.due_at_ms IS NOT NULL AND l.deaths < p_suspect_deaths
                ORDER BY l.due_at_ms LIMIT 1
            ) h
            UNION ALL
            SELECT h.due_at_ms FROM (
                SELECT l.due_at_ms FROM "durable".lease l
                WHERE l.anyone AND l.due_at_ms IS NOT NULL AND l.deaths < p_suspect_deaths
                ORDER BY l.due_at_ms LIMIT 1
            ) h
            UNION ALL
            SELECT l.due_at_ms FROM "durable".lease l
            WHERE l.deaths > 0 AND l.deaths >= p_suspect_deaths AND l.due_at_ms IS NOT NULL
                AND p_suspects > 0
                AND (l.anyone OR EXISTS (
                    SELECT 1 FROM unnest(l_lane, l_pin) k (lane, pin)
                    WHERE k.lane = l.lane AND k.pin = l.pin
                ))
        ) x;
    ELSIF v_chosen IS NULL THEN
        v_next := v_due[1];
    ELSE
        -- By this very claim a run may have become a suspect.
        SELECT l.due_at_ms INTO v_next FROM "durable".lease l
        WHERE l.lane = v_lane[1] AND l.pin = v_pin[1] AND l.priority = v_priority[1]
            AND l.due_at_ms IS NOT NULL AND (p_suspects > 0 OR l.deaths < p_suspect_deaths)
        ORDER BY l.due_at_ms LIMIT 1;
        v_next := least(v_next, v_due[2]);
    END IF;
    now_ms := v_now;
    next_due_ms := least(v_next, v_again);
    RETURN NEXT;
    IF v_chosen IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT NULL::bigint, NULL::bigint, c.*
    FROM "durable".claimed_v1(v_chosen, p_journal_limit) c;
END
$$;

-- Lease those of these runs that nobody has, and that are due and within reach: their ids, best
-- first. No suspects, and none that has anything posted. "mark": as the protocol's "next_epoch".
CREATE FUNCTION "durable".lease_woken_v1(
    p_now bigint, p_runs text[], p_worker text, p_lease_ms bigint, p_limit bigint,
    l_lane bigint[], l_pin text[], p_suspect_deaths bigint, p_mark bigint
) RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_chosen text[];
BEGIN
    SELECT array_agg(x.run_id ORDER BY x.rank, x.run_id) INTO v_chosen FROM (
        SELECT l.run_id, l.due_at_ms - l.priority * 60000 AS rank FROM "durable".lease l
        WHERE l.run_id = ANY (p_runs)
            AND l.owner IS NULL AND l.due_at_ms <= p_now AND l.deaths < p_suspect_deaths
            AND (l.anyone OR EXISTS (
                SELECT 1 FROM unnest(l_lane, l_pin) k (lane, pin)
                WHERE k.lane = l.lane AND k.pin = l.pin
            ))
            AND NOT EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = l.run_id)
        ORDER BY rank, l.run_id LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) x;
    IF v_chosen IS NOT NULL THEN
        UPDATE "durable".lease l SET
            epoch = coalesce((l.epoch / 4294967296 + 1) * 4294967296 + p_mark, l.epoch + 1),
            owner = p_worker,
            anyone = false,
            due_at_ms = p_now + p_lease_ms,
            updated_at_ms = p_now,
            status = CASE WHEN l.status IN ('pending', 'suspended') THEN 'running' ELSE l.status END
        WHERE l.run_id = ANY (v_chosen);
    END IF;
    RETURN v_chosen;
END
$$;

-- The verb "deliver_and_claim": what "deliver_v1" does, then a claim of those runs alone that got
-- something into their inboxes by it. The first row has the time and the verdicts, and no run; the
-- others are as of "claim". The rows were locked when the messages were put; what is locked by
-- others now was posted to, as was any run that still has something posted: nothing is waited for.
CREATE FUNCTION "durable".deliver_and_claim_v1(
    p_now bigint, p_inbox_limit bigint, p_wait boolean,
    m_run text[], m_kind text[], m_name text[], m_payload bytea[], m_encoding text[],
    m_meta text[], m_dedupe text[], m_token text[], m_digest text[], m_reopens boolean[],
    m_anyone boolean[],
    p_worker text, p_lease_ms bigint, p_limit bigint, l_lane bigint[], l_pin text[],
    p_suspect_deaths bigint, p_journal_limit bigint, p_mark bigint
) RETURNS TABLE (
    now_ms bigint, verdicts smallint[],
    run_id text, workflow text, version text, fingerprint text, queue text, input bytea,
    input_encoding text, digest text, priority bigint, parent_id text, parent_unit text,
    depth bigint, attributes text, deadline_at_ms bigint, created_at_ms bigint,
    updated_at_ms bigint, finished_at_ms bigint, status text, generation bigint, waiting text,
    failure text, entry_count bigint, epoch bigint, owner text, due_at_ms bigint, deaths bigint,
    pin text,
    e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[], e_at bigint[],
    e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[],
    i_seq bigint[], i_kind text[], i_name text[], i_at bigint[], i_payload bytea[],
    i_encoding text[], i_meta text[]
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_chosen text[];
BEGIN
    verdicts := "durable".deliver_v1(
        p_now, p_inbox_limit, p_wait, m_run, m_kind, m_name, m_payload, m_encoding, m_meta,
        m_dedupe, m_token, m_digest, m_reopens, m_anyone
    );
    now_ms := coalesce(p_now, "durable".now_ms_v1());
    v_chosen := "durable".lease_woken_v1(
        now_ms,
        ARRAY(
            SELECT m.run_id FROM unnest(m_run, verdicts) m (run_id, verdict) WHERE m.verdict = 0
        ),
        p_worker, p_lease_ms, p_limit, l_lane, l_pin, p_suspect_deaths, p_mark
    );
    RETURN NEXT;
    IF v_chosen IS NOT NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL::smallint[], c.*
        FROM "durable".claimed_v1(v_chosen, p_journal_limit) c;
    END IF;
END
$$;

-- The same with one commit, without tokens, children and messages, of a run that is leased by it. The
-- first row has the verdict on it as well; if it was applied, its run is not among the others.
CREATE FUNCTION "durable".deliver_and_commit_v1(
    p_now bigint, p_inbox_limit bigint, p_wait boolean,
    m_run text[], m_kind text[], m_name text[], m_payload bytea[], m_encoding text[],
    m_meta text[], m_dedupe text[], m_token text[], m_digest text[], m_reopens boolean[],
    m_anyone boolean[],
    p_worker text, p_lease_ms bigint, p_limit bigint, l_lane bigint[], l_pin text[],
    p_suspect_deaths bigint, p_journal_limit bigint, p_mark bigint,
    p_after_epoch bigint, p_before bigint,
    c_run text[], c_epoch bigint[], c_after bigint[], c_count bigint[], c_status text[],
    c_generation bigint[], c_seen bigint[], c_waiting text[], c_failure text[],
    c_finished boolean[], c_released boolean[], c_due bigint[], c_pin text[], c_renews boolean[],
    c_not_before bigint[],
    x_of bigint[], x_run text[], x_epoch bigint[], x_seq bigint[], x_kind text[], x_unit text[],
    x_attempt bigint[], x_at bigint[], x_payload bytea[], x_encoding text[], x_meta text[],
    x_format bigint[],
    s_of bigint[], s_run text[], s_seq bigint[]
) RETURNS TABLE (
    now_ms bigint, verdicts smallint[], foreseen smallint,
    run_id text, workflow text, version text, fingerprint text, queue text, input bytea,
    input_encoding text, digest text, priority bigint, parent_id text, parent_unit text,
    depth bigint, attributes text, deadline_at_ms bigint, created_at_ms bigint,
    updated_at_ms bigint, finished_at_ms bigint, status text, generation bigint, waiting text,
    failure text, entry_count bigint, epoch bigint, owner text, due_at_ms bigint, deaths bigint,
    pin text,
    e_seq bigint[], e_kind text[], e_unit text[], e_attempt bigint[], e_at bigint[],
    e_payload bytea[], e_encoding text[], e_meta text[], e_format bigint[],
    i_seq bigint[], i_kind text[], i_name text[], i_at bigint[], i_payload bytea[],
    i_encoding text[], i_meta text[]
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_chosen text[];
    v_epoch bigint;
BEGIN
    verdicts := "durable".deliver_v1(
        p_now, p_inbox_limit, p_wait, m_run, m_kind, m_name, m_payload, m_encoding, m_meta,
        m_dedupe, m_token, m_digest, m_reopens, m_anyone
    );
    now_ms := coalesce(p_now, "durable".now_ms_v1());
    SELECT l.epoch INTO v_epoch FROM "durable".lease l WHERE l.run_id = c_run[1];
    v_chosen := "durable".lease_woken_v1(
        now_ms,
        ARRAY(
            SELECT m.run_id FROM unnest(m_run, verdicts) m (run_id, verdict) WHERE m.verdict = 0
        ),
        p_worker, p_lease_ms, p_limit, l_lane, l_pin, p_suspect_deaths, p_mark
    );
    foreseen := 1;
    IF v_epoch = p_after_epoch AND (p_before IS NULL OR now_ms < p_before)
        AND c_run[1] = ANY (v_chosen)
    THEN
        foreseen := ("durable".apply_v1(
            now_ms, c_run, c_epoch, c_after, c_count, c_status, c_generation, c_seen, c_waiting,
            c_failure, c_finished, c_released, c_due, c_pin, c_renews, c_not_before, x_of, x_run,
            x_epoch, x_seq, x_kind, x_unit, x_attempt, x_at, x_payload, x_encoding, x_meta,
            x_format, s_of, s_run, s_seq, '{}', '{}', '{}', '{}'
        ))[1];
        IF foreseen = 0 THEN
            v_chosen := array_remove(v_chosen, c_run[1]);
        END IF;
    END IF;
    RETURN NEXT;
    IF cardinality(v_chosen) > 0 THEN
        RETURN QUERY SELECT NULL::bigint, NULL::smallint[], NULL::smallint, c.*
        FROM "durable".claimed_v1(v_chosen, p_journal_limit) c;
    END IF;
END
$$;

-- The verb "renew". One row for each lease that still holds, with whether there is mail; the
-- first row has the time alone. The counter tells cheaply that there is no mail; that there is
-- some, only the inbox: a new holder does not know the numbers of what others consumed.
--
-- Of several runs, those in other hands are passed over, to be asked for alone: a handler may hold
-- one in a transaction for long, and whoever waits for it must have no other in hand.
CREATE FUNCTION "durable".renew_v1(
    p_now bigint, p_lease_ms bigint, h_run text[], h_epoch bigint[], h_seen bigint[]
) RETURNS TABLE (now_ms bigint, run_id text, epoch bigint, mail boolean)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_locked text[];
BEGIN
    IF cardinality(h_run) = 1 THEN
        SELECT array_agg(x.run_id) INTO v_locked FROM (
            SELECT l.run_id FROM "durable".lease l WHERE l.run_id = h_run[1] FOR NO KEY UPDATE
        ) x;
    ELSE
        SELECT array_agg(x.run_id) INTO v_locked FROM (
            SELECT l.run_id FROM "durable".lease l WHERE l.run_id = ANY (h_run)
            FOR NO KEY UPDATE SKIP LOCKED
        ) x;
    END IF;
    v_now := coalesce(p_now, "durable".now_ms_v1());
    UPDATE "durable".lease l SET due_at_ms = v_now + p_lease_ms
    FROM unnest(h_run, h_epoch) h (run_id, epoch)
    WHERE l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
        AND l.run_id = ANY (v_locked);
    RETURN QUERY SELECT v_now, NULL::text, NULL::bigint, false;
    RETURN QUERY SELECT NULL::bigint, l.run_id, l.epoch, (
        l.arrived > h.seen AND EXISTS (
            SELECT 1 FROM "durable".inbox i WHERE i.run_id = l.run_id AND i.seq > h.seen
        )
    ) OR EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = l.run_id)
    FROM unnest(h_run, h_epoch, h_seen) h (run_id, epoch, seen)
    JOIN "durable".lease l
        ON l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
    WHERE l.run_id = ANY (v_locked);
END
$$;

-- The verb "inbox".
CREATE FUNCTION "durable".inbox_v1(
    p_now bigint, h_run text[], h_epoch bigint[], h_seen bigint[]
) RETURNS TABLE (
    run_id text, seq bigint, kind text, name text, at_ms bigint, payload bytea, encoding text,
    meta text
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
    IF EXISTS (SELECT 1 FROM "durable".posted p WHERE p.run_id = ANY (h_run)) THEN
        PERFORM "durable".route_v1(coalesce(p_now, "durable".now_ms_v1()), h_run);
    END IF;
    RETURN QUERY SELECT i.run_id, i.seq, i.kind, i.name, i.at_ms, i.payload, i.encoding, i.meta
    FROM unnest(h_run, h_epoch, h_seen) WITH ORDINALITY h (run_id, epoch, seen, nr)
    JOIN "durable".lease l ON l.run_id = h.run_id AND l.epoch = h.epoch AND l.owner IS NOT NULL
        AND l.arrived > h.seen
    JOIN "durable".inbox i ON i.run_id = h.run_id AND i.seq > h.seen
    ORDER BY h.nr, i.seq;
END
$$;

-- The verb "prune": ended runs, oldest end first, whole. Runs whose parent is still there stay.
CREATE FUNCTION "durable".prune_v1(p_before bigint, p_statuses text[], p_limit bigint)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off -- the index is read in its order, and no further than is needed
SET enable_hashjoin = off
SET enable_sort = off
AS $$
DECLARE
    v_gone text[];
    v_entries bigint[];
BEGIN
    -- Whoever opens a run again holds its outcome row, and whoever posts to it its run row: such a
    -- run is passed over. So is one with a message on its way that will open it again; of those
    -- that came while we locked, only a new statement knows.
    SELECT array_agg(x.run_id), array_agg(x.entry_count) INTO v_gone, v_entries FROM (
        SELECT o.run_id, o.entry_count FROM "durable".outcome o
        JOIN "durable".run r ON r.run_id = o.run_id
        WHERE o.finished_at_ms < p_before
            AND (p_statuses IS NULL OR o.status = ANY (p_statuses))
            AND NOT EXISTS (SELECT 1 FROM "durable".run p WHERE p.run_id = o.parent_id)
            AND NOT EXISTS (
                SELECT 1 FROM "durable".posted m WHERE m.run_id = r.run_id AND m.reopens
            )
        ORDER BY o.finished_at_ms, o.run_id
        LIMIT p_limit
        FOR UPDATE OF o, r SKIP LOCKED
    ) x;
    -- One transaction removes some 50,000 entries at most, unless a single run has more.
    SELECT array_agg(s.run_id) INTO v_gone FROM (
        SELECT g.run_id, sum(g.entries) OVER (ORDER BY g.nr) - g.entries AS others
        FROM unnest(v_gone, v_entries) WITH ORDINALITY g (run_id, entries, nr)
        WHERE NOT EXISTS (
            SELECT 1 FROM "durable".posted m WHERE m.run_id = g.run_id AND m.reopens
        )
    ) s
    WHERE s.others < 50000;
    IF v_gone IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM "durable".outcome o WHERE o.run_id = ANY (v_gone);
    DELETE FROM "durable".entry e WHERE e.run_id = ANY (v_gone);
    DELETE FROM "durable".inbox i WHERE i.run_id = ANY (v_gone);
    DELETE FROM "durable".posted p WHERE p.run_id = ANY (v_gone);
    DELETE FROM "durable".dedupe d WHERE d.run_id = ANY (v_gone);
    DELETE FROM "durable".token t WHERE t.run_id = ANY (v_gone);
    DELETE FROM "durable".attribute a WHERE a.run_id = ANY (v_gone);
    DELETE FROM "durable".run r WHERE r.run_id = ANY (v_gone);
    RETURN cardinality(v_gone);
END
$$;
