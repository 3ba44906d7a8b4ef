-- depends: 0001.engine

-- Partitions of the tables that `partitioned_tables` names. There is no DEFAULT partition: it would swallow
-- dates from anywhere, and then neither the right partition could be made (23514) nor an old one detached
-- concurrently (55000).
--
-- Months begin at 00:00 UTC whatever the session's time zone is, hence SET timezone on every function that
-- reckons with them; and SET jit = off, since compiling takes a hundred times as long as these queries do.

-- Start of the period `steps` after the one that holds `at`.
CREATE FUNCTION period_start(kind text, at timestamptz, steps integer DEFAULT 0) RETURNS timestamptz
LANGUAGE sql STABLE
SET timezone = 'UTC'
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT CASE kind
        WHEN 'month' THEN date_trunc('month', at) + make_interval(months => steps)
        WHEN 'window' THEN to_timestamp((dedup_window(at) + steps)::bigint * 86400 * dedup_window_days)
    END FROM storage_settings
$$;

-- Nothing before this instant is stored. One skew late, so that what was accepted just before the turn of a
-- month still finds its partition.
CREATE FUNCTION retention_floor(kind text, retention integer, at timestamptz DEFAULT now()) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT period_start(kind, at - max_skew, -retention) FROM storage_settings $$;

CREATE FUNCTION period_name(table_name text, kind text, at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET timezone = 'UTC'
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT CASE kind
        WHEN 'month' THEN table_name || to_char(at, '_YYYY_MM')
        WHEN 'window' THEN table_name || '_w' || dedup_window(at)
    END
$$;

-- What is attached, from the catalogue: partitions that somebody made by hand count, too.
CREATE FUNCTION list_partitions()
RETURNS TABLE (table_name text, partition_name text, starts timestamptz, ends timestamptz, detaching boolean)
LANGUAGE sql STABLE
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT t.table_name, c.relname::text, bound.starts, bound.ends, i.inhdetachpending
    FROM partitioned_tables t
    JOIN pg_inherits i ON i.inhparent = to_regclass(format('public.%I', t.table_name))
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN storage_settings s
    CROSS JOIN LATERAL regexp_match(
        replace(replace(pg_get_expr(c.relpartbound, c.oid), 'MINVALUE', '-infinity'), 'MAXVALUE', 'infinity'),
        $re$FROM \('?([^')]+)'?\) TO \('?([^')]+)'?\)$re$
    ) AS m
    CROSS JOIN LATERAL (
        SELECT CASE t.kind WHEN 'month' THEN m[1]::timestamptz
                           ELSE to_timestamp(m[1]::float8 * 86400 * s.dedup_window_days) END AS starts,
               CASE t.kind WHEN 'month' THEN m[2]::timestamptz
                           ELSE to_timestamp(m[2]::float8 * 86400 * s.dedup_window_days) END AS ends
    ) AS bound
$$;

-- What was detached of tables whose expired partitions are to be dropped, by name: left there by a process that
-- ended between the two.
CREATE FUNCTION list_detached()
RETURNS TABLE (table_name text, partition_name text, starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE
SET timezone = 'UTC'
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT t.table_name, c.relname::text, began.at, period_start(t.kind, began.at, 1)
    FROM partitioned_tables t
    CROSS JOIN storage_settings s
    JOIN pg_class c ON c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
                   AND starts_with(c.relname, t.table_name)
    CROSS JOIN LATERAL regexp_match(
        substr(c.relname, length(t.table_name) + 1),
        CASE t.kind WHEN 'month' THEN '^_(\d{4}_(?:0[1-9]|1[0-2]))$' ELSE '^_w(\d{1,6})$' END
    ) AS m
    CROSS JOIN LATERAL (
        SELECT CASE t.kind WHEN 'month' THEN to_date(m[1], 'YYYY_MM')::timestamptz
                           ELSE to_timestamp(m[1]::float8 * 86400 * s.dedup_window_days) END AS at
    ) AS began
    WHERE t.drop_expired AND m IS NOT NULL
$$;

-- All partitions that exist or should, with their state: present, missing (the period before the current
-- one, the current one and `ahead` more), expired (past retention), detaching (a detach was interrupted), or
-- detached (expired, and still to be dropped).
CREATE FUNCTION partition_plan(at timestamptz DEFAULT now())
RETURNS TABLE (table_name text, partition_name text, starts timestamptz, ends timestamptz, state text,
               drop_expired boolean, owned boolean)
LANGUAGE sql STABLE
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH attached AS MATERIALIZED (SELECT * FROM list_partitions()),
    wanted AS MATERIALIZED (
        SELECT t.table_name, t.kind,
               period_start(t.kind, at, n) AS starts, period_start(t.kind, at, n + 1) AS ends
        FROM partitioned_tables t, generate_series(-1, t.ahead) AS n
    ),
    kept AS MATERIALIZED (
        SELECT t.table_name, retention_floor(t.kind, t.retention, at) AS since FROM partitioned_tables t
    ),
    listed AS (
        SELECT a.table_name, a.partition_name, a.starts, a.ends,
               CASE WHEN a.detaching THEN 'detaching'
                    WHEN a.ends <= k.since THEN 'expired'
                    ELSE 'present' END AS state
        FROM attached a JOIN kept k USING (table_name)
        UNION ALL
        SELECT w.table_name, period_name(w.table_name, w.kind, w.starts), w.starts, w.ends, 'missing'
        FROM wanted w
        WHERE NOT EXISTS (SELECT FROM attached a
                          WHERE a.table_name = w.table_name AND a.starts < w.ends AND a.ends > w.starts)
        UNION ALL
        SELECT d.table_name, d.partition_name, d.starts, d.ends, 'detached'
        FROM list_detached() d JOIN kept k USING (table_name)
        WHERE d.ends <= k.since
    )
    SELECT l.*, t.drop_expired, pg_has_role(c.relowner, 'USAGE')
    FROM listed l
    JOIN partitioned_tables t USING (table_name)
    JOIN pg_class c ON c.oid = to_regclass(format('public.%I', t.table_name))
    ORDER BY l.table_name, l.starts
$$;

-- For each table how many periods after the current one exist without a gap; -1 if the current one does not.
CREATE FUNCTION partitions_ahead(at timestamptz DEFAULT now())
RETURNS TABLE (table_name text, kind text, ahead integer)
LANGUAGE sql STABLE
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$
    WITH attached AS MATERIALIZED (SELECT * FROM list_partitions() WHERE NOT detaching),
    -- One period past `ahead`: whatever else is there, this one is taken to be the end.
    periods AS MATERIALIZED (
        SELECT t.table_name, t.kind, n, n > t.ahead AS beyond,
               period_start(t.kind, at, n) AS starts, period_start(t.kind, at, n + 1) AS ends
        FROM partitioned_tables t, generate_series(0, t.ahead + 1) AS n
    )
    SELECT p.table_name, p.kind, min(p.n) - 1
    FROM periods p
    WHERE p.beyond OR NOT EXISTS (
        SELECT FROM attached a
        WHERE a.table_name = p.table_name AND a.starts <= p.starts AND a.ends >= p.ends
    )
    GROUP BY p.table_name, p.kind
$$;

-- Make the partition that holds `at`; returns its name, or NULL if there is one already.
--
-- CREATE TABLE ... LIKE, then ATTACH, rather than CREATE TABLE ... PARTITION OF: the latter takes ACCESS
-- EXCLUSIVE on the parent, which waits for every reader and writer and makes all later ones wait in turn; ATTACH
-- takes SHARE UPDATE EXCLUSIVE, which no reader or writer notices. ATTACH reads the rows of what it
-- attaches unless a CHECK constraint vouches for them: a new table has none, and a month that DETACH
-- CONCURRENTLY took away earlier carries such a constraint from there.
--
-- Partitions get no privileges of their own: rights on the parent are what counts for whoever goes through
-- it, and going around it is for the owner.
CREATE FUNCTION create_partition(table_name text, at timestamptz) RETURNS text
LANGUAGE plpgsql
SET timezone = 'UTC'
SET lock_timeout = '5s'
SET client_min_messages = 'warning'
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    registered partitioned_tables;
    period_from timestamptz;
    period_to timestamptz;
    partition_name text;
    parent_owner name;
    lower_bound text;
    upper_bound text;
BEGIN
    SELECT t.* INTO registered FROM partitioned_tables t WHERE t.table_name = create_partition.table_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION '"%" is no table that partitioned_tables names', table_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    period_from := period_start(registered.kind, at);
    period_to := period_start(registered.kind, at, 1);
    PERFORM pg_advisory_xact_lock(hashtextextended('agent-streams partitions', 0));
    IF EXISTS (SELECT FROM list_partitions() l
               WHERE l.table_name = registered.table_name AND l.starts < period_to AND l.ends > period_from) THEN
        RETURN NULL;
    END IF;
    partition_name := period_name(registered.table_name, registered.kind, period_from);
    IF to_regclass(format('public.%I', partition_name)) IS NULL THEN
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL) %s',
                       partition_name, registered.table_name,
                       CASE WHEN registered.storage <> '' THEN format('WITH (%s)', registered.storage) END);
        -- A superuser may be at work here, but create_partitions() and repairs go on as the table's owner.
        SELECT pg_get_userbyid(c.relowner) INTO parent_owner
        FROM pg_class c WHERE c.oid = to_regclass(format('public.%I', registered.table_name));
        IF parent_owner <> current_user THEN
            EXECUTE format('ALTER TABLE public.%I OWNER TO %I', partition_name, parent_owner);
        END IF;
    END IF;
    IF registered.kind = 'month' THEN
        lower_bound := quote_literal(period_from);
        upper_bound := quote_literal(period_to);
    ELSE
        lower_bound := dedup_window(period_from)::text;
        upper_bound := (dedup_window(period_from) + 1)::text;
    END IF;
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (%s)',
                   registered.table_name, partition_name, lower_bound, upper_bound);
    RETURN partition_name;
END $$;
REVOKE ALL ON FUNCTION create_partition(text, timestamptz) FROM PUBLIC;

-- Make all that is missing as of an instant; returns the names. For the owner; others call create_partitions().
CREATE FUNCTION create_partitions_at(at timestamptz) RETURNS SETOF text
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT made.name
    FROM (SELECT * FROM partition_plan(at) WHERE state = 'missing') AS p
    CROSS JOIN LATERAL create_partition(p.table_name, p.starts) AS made (name)
    WHERE made.name IS NOT NULL
$$;
REVOKE ALL ON FUNCTION create_partitions_at(timestamptz) FROM PUBLIC;

CREATE FUNCTION create_partitions() RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT create_partitions_at(now()) $$;
REVOKE ALL ON FUNCTION create_partitions() FROM PUBLIC;

-- Close a hole that a write fell into; returns the names of what was made. The writers' one way to a
-- partition of a chosen date, so it refuses every date that no accepted event can have. Windows go by the
-- server's clock whatever `at` says; their neighbours are made as well, since near a rotation two are written.
CREATE FUNCTION repair_partition(table_name text, at timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET jit = off
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    registered partitioned_tables;
    oldest timestamptz;
    newest timestamptz;
BEGIN
    SELECT t.* INTO registered FROM partitioned_tables t WHERE t.table_name = repair_partition.table_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION '"%" is no table that partitioned_tables names', table_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF registered.kind = 'window' THEN
        RETURN QUERY
            SELECT made.name
            FROM generate_series(-1, 1) AS step
            CROSS JOIN LATERAL create_partition(table_name, period_start('window', now(), step)) AS made (name)
            WHERE made.name IS NOT NULL;
        RETURN;
    END IF;
    oldest := retention_floor(registered.kind, registered.retention);
    SELECT now() + max_skew + interval '1 month' INTO newest FROM storage_settings;
    IF at IS NULL OR at < oldest OR at > newest THEN
        RAISE EXCEPTION '% has no place for %: it holds % to %', table_name, at, oldest, newest
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
        SELECT made.name FROM create_partition(table_name, at) AS made (name) WHERE made.name IS NOT NULL;
END $$;
REVOKE ALL ON FUNCTION repair_partition(text, timestamptz) FROM PUBLIC;
