-- depends: 0000.roles

-- The engine's own tables: de-duplication, history, outbox, and how tables are partitioned.
-- Every family of events uses them.

-- One row of settings that belong to the stored data rather than to a process.
CREATE TABLE storage_settings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Length of a de-duplication window: an event is known for one to two windows. A change renumbers the
    -- windows, so that what was claimed before is forgotten (state converges all the same; history may
    -- then hold a repeat).
    dedup_window_days integer NOT NULL DEFAULT 7 CHECK (dedup_window_days BETWEEN 1 AND 366),
    -- The most that a worker's clock_skew may be set to; partitions may be made this much past a month ahead.
    max_skew interval NOT NULL DEFAULT '1 day' CHECK (max_skew BETWEEN interval '0' AND interval '7 days')
);
INSERT INTO storage_settings DEFAULT VALUES;

-- Which tables are partitioned by time, and how. A package that brings its own tables adds its rows here.
CREATE TABLE partitioned_tables (
    table_name text PRIMARY KEY CHECK (length(table_name) BETWEEN 1 AND 50),
    -- month: RANGE on a timestamptz, one calendar month (UTC). window: RANGE on a de-duplication window's number.
    kind text NOT NULL CHECK (kind IN ('month', 'window')),
    -- Periods that exist after the current one.
    ahead integer NOT NULL CHECK (ahead BETWEEN 1 AND 36),
    -- Periods that are kept before the current one; older ones are detached.
    retention integer NOT NULL CHECK (retention BETWEEN 1 AND 1200),
    -- Drop what was detached, too, instead of leaving a plain table to be archived.
    drop_expired boolean NOT NULL DEFAULT false,
    -- Storage parameters of each partition: a partitioned table cannot hold any for its partitions to inherit.
    storage text NOT NULL DEFAULT ''
);

-- One row per event seen, by a 128-bit digest of (source, id). A window is a span of days; a key is
-- claimed in the current window and looked up in the one before.
CREATE TABLE event_claims (
    window_no integer NOT NULL,
    key uuid NOT NULL,
    PRIMARY KEY (window_no, key)
) PARTITION BY RANGE (window_no);

-- Rows are only inserted, and gone within two windows: a vacuum that freezes them would be work for nothing.
INSERT INTO partitioned_tables (table_name, kind, ahead, retention, drop_expired, storage)
VALUES ('event_claims', 'window', 2, 1, true, 'autovacuum_vacuum_insert_threshold = -1');

-- What happened, in the producers' words; append-only.
CREATE TABLE event_history (
    time timestamptz NOT NULL,
    entity_id uuid,
    type text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    batch_id uuid NOT NULL,
    trace_id text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    data jsonb NOT NULL
) PARTITION BY RANGE (time);
CREATE INDEX idx_event_history_entity ON event_history (entity_id, time);

INSERT INTO partitioned_tables (table_name, kind, ahead, retention, drop_expired, storage)
VALUES ('event_history', 'month', 3, 12, true,
        'autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05');

-- One row per batch with all that must be published after its commit, fixed to the byte. Rows live for
-- milliseconds: the table is nearly empty and full of dead rows, so that vacuum goes by count, not by
-- share, and without pausing.
CREATE TABLE outbox (
    batch_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    messages bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000,
    toast.autovacuum_vacuum_cost_delay = 0
);
-- Not worth compressing for milliseconds: that would cost more CPU than the bytes it saves.
ALTER TABLE outbox ALTER COLUMN messages SET STORAGE EXTERNAL;
CREATE INDEX idx_outbox_created_at ON outbox (created_at);

-- The number of the de-duplication window that an instant lies in.
CREATE FUNCTION dedup_window(at timestamptz) RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT floor(extract(epoch FROM at) / (86400 * dedup_window_days))::integer
    FROM storage_settings WHERE singleton
$$;

-- Claim keys as of an instant; returns those that nobody claimed before. For the owner and for tests:
-- everybody else calls claim_events(keys), which goes by the server's clock.
--
-- Away from a rotation `older` and `newer` are one window: claim it, look up the one before. Within 15 minutes
-- of a rotation, on either side, both windows are claimed, the older first; a key is fresh only if both took
-- it. So of two transactions on either side of a rotation one always meets the other's row and waits for it
-- to end. (The lookup alone could not see a row that is not committed yet.) That holds as long as no
-- transaction lives longer than 30 minutes.
--
-- Keys are inserted in ascending order, windows too: one lock order for all, hence no deadlocks.
-- The lookup is a scalar subquery, which is never made a join: a plan that was cached when the window before was
-- empty would compare each key with all of its rows once it holds millions (4 s instead of 2 ms at 100,000). For
-- the same reason no sequential scans; and no JIT, which what is switched off is costed high enough to set off.
CREATE FUNCTION claim_events_at(keys uuid[], at timestamptz) RETURNS SETOF uuid
LANGUAGE plpgsql ROWS 500
SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    older CONSTANT integer := dedup_window(at - interval '15 minutes');
    newer CONSTANT integer := dedup_window(at + interval '15 minutes');
    fresh uuid[];
BEGIN
    WITH claimed AS (
        INSERT INTO event_claims AS c (window_no, key)
        SELECT older, k FROM unnest(keys) AS k ORDER BY k
        ON CONFLICT DO NOTHING
        RETURNING c.key
    )
    SELECT array_agg(claimed.key) INTO fresh
    FROM claimed
    WHERE (SELECT p.key FROM event_claims AS p WHERE p.window_no = older - 1 AND p.key = claimed.key) IS NULL;

    IF newer = older THEN
        RETURN QUERY SELECT unnest(fresh);
    ELSE
        RETURN QUERY
            INSERT INTO event_claims AS c (window_no, key)
            SELECT newer, k FROM unnest(fresh) AS k ORDER BY k
            ON CONFLICT DO NOTHING
            RETURNING c.key;
    END IF;
END $$;
REVOKE ALL ON FUNCTION claim_events_at(uuid[], timestamptz) FROM PUBLIC;

-- Claim keys now; returns those that are fresh. The keys of an aborted transaction were never claimed.
CREATE FUNCTION claim_events(keys uuid[]) RETURNS SETOF uuid
LANGUAGE sql ROWS 500 SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT claim_events_at(keys, now()) $$;
REVOKE ALL ON FUNCTION claim_events(uuid[]) FROM PUBLIC;
