-- depends: 0013.statement-statistics

-- Columns that nothing searches by need no statistics. ANALYZE, which autovacuum runs whenever a fiftieth of a table
-- is new, reads and sorts 30,000 values of each column: of documents, prose and ids that are all different, for
-- nothing. That was three quarters of its CPU, half a second at a time on a core that a worker's statements wait for.
-- On a partitioned table it holds for the partitions that exist; those to come get it from there, below.
ALTER TABLE tasks
    ALTER COLUMN payload SET STATISTICS 0,
    ALTER COLUMN result SET STATISTICS 0,
    ALTER COLUMN error SET STATISTICS 0,
    ALTER COLUMN note SET STATISTICS 0,
    ALTER COLUMN reason SET STATISTICS 0,
    ALTER COLUMN created_stamp SET STATISTICS 0,
    ALTER COLUMN agent_stamp SET STATISTICS 0,
    ALTER COLUMN status_stamp SET STATISTICS 0,
    ALTER COLUMN progress_stamp SET STATISTICS 0,
    ALTER COLUMN outcome_stamp SET STATISTICS 0;
ALTER TABLE rounds
    ALTER COLUMN options SET STATISTICS 0,
    ALTER COLUMN opened_stamp SET STATISTICS 0,
    ALTER COLUMN closed_stamp SET STATISTICS 0,
    ALTER COLUMN decided_tally SET STATISTICS 0;
ALTER TABLE votes
    ALTER COLUMN rationale SET STATISTICS 0,
    ALTER COLUMN stamp SET STATISTICS 0;
ALTER TABLE event_history
    ALTER COLUMN event_id SET STATISTICS 0,
    ALTER COLUMN batch_id SET STATISTICS 0,
    ALTER COLUMN trace_id SET STATISTICS 0,
    ALTER COLUMN data SET STATISTICS 0;

-- As in 0003.partitions, which gives the reasons; a new partition's columns are analyzed as its parent's are.
CREATE OR REPLACE FUNCTION create_partition(table_name text, at timestamptz) RETURNS text
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
    unsearched name;
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
        FOR unsearched IN
            SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = to_regclass(format('public.%I', registered.table_name))
              AND a.attnum > 0 AND a.attstattarget = 0
        LOOP
            EXECUTE format('ALTER TABLE public.%I ALTER COLUMN %I SET STATISTICS 0', partition_name, unsearched);
        END LOOP;
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
