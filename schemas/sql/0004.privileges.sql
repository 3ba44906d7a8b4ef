-- depends: 0002.application 0003.partitions

-- Rights of the group roles; idempotent, so that it can be called again when the roles were made later.
-- Partitions are not named: who goes through the parent needs rights on the parent only, and who would go
-- around it (to change history, say) gets none.
CREATE FUNCTION grant_privileges() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    IF to_regrole('streams_writer') IS NULL OR to_regrole('streams_reader') IS NULL THEN
        RAISE NOTICE 'the roles streams_writer and streams_reader do not exist: nothing was granted';
        RETURN;
    END IF;

    GRANT SELECT, INSERT, UPDATE
        ON tasks, rounds, votes, round_tallies, agent_registry, agents, agent_scores TO streams_writer;
    GRANT SELECT, INSERT ON event_history TO streams_writer;
    GRANT SELECT, INSERT, DELETE ON outbox TO streams_writer;
    -- SELECT ... FOR UPDATE SKIP LOCKED asks for the right to update one column at least.
    GRANT UPDATE (created_at) ON outbox TO streams_writer;
    GRANT SELECT ON partitioned_tables, storage_settings TO streams_writer;
    -- No right on event_claims itself: the function is the only way in, with the server's clock.
    GRANT EXECUTE ON FUNCTION claim_events(uuid[]), create_partitions(), repair_partition(text, timestamptz)
        TO streams_writer;

    GRANT SELECT ON tasks, rounds, votes, round_tallies, agents, agent_scores, event_history, users,
        partitioned_tables, storage_settings TO streams_reader;
    -- token_hash is readable because the API looks sessions up by it; it is a digest, no token.
    GRANT SELECT (id, user_id, token_hash, roles, created_at, expires_at) ON sessions TO streams_reader;
END $$;
REVOKE ALL ON FUNCTION grant_privileges() FROM PUBLIC;

DO $$ BEGIN PERFORM grant_privileges(); END $$;
