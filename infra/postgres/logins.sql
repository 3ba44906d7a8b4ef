-- Login roles of the processes, each a member of one group role and of nothing else. Run once by an
-- administrator, connected to the database of the streams, before the first `streams migrate`:
--   psql --set ON_ERROR_STOP=1 --file infra/postgres/logins.sql "$ADMIN_URL"
-- It may be run again. It sets no passwords, so that none is logged: give each role one with psql's
-- `\password streams_worker`, or let certificates or the platform's identities do it.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('streams_migrator', 'NOLOGIN'), ('streams_writer', 'NOLOGIN'), ('streams_reader', 'NOLOGIN'),
            ('streams_scores', 'NOLOGIN'),
            -- `streams migrate` and `streams partitions apply`
            ('streams_deployer', 'LOGIN IN ROLE streams_migrator'),
            ('streams_worker', 'LOGIN IN ROLE streams_writer'),
            ('streams_updater', 'LOGIN IN ROLE streams_scores'),
            ('streams_api', 'LOGIN IN ROLE streams_reader'),
            -- exporters of metrics: statistics of the server, no rows of ours
            ('streams_monitor', 'LOGIN IN ROLE pg_monitor')
        ) AS roles (name, options)
    LOOP
        IF to_regrole(wanted.name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.options);
        END IF;
    END LOOP;
    -- Nobody else looks around in this database, or leaves temporary tables in it.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO '
                   'streams_migrator, streams_writer, streams_reader, streams_scores, streams_monitor',
                   current_database());
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO streams_migrator;
GRANT USAGE ON SCHEMA public TO streams_writer, streams_reader, streams_scores;
-- The application is not to wait for ever, whatever a client forgets to set.
ALTER ROLE streams_worker SET statement_timeout = '60s';
ALTER ROLE streams_api SET statement_timeout = '15s';
ALTER ROLE streams_api SET default_transaction_read_only = on;
ALTER ROLE streams_updater SET statement_timeout = '15s';
ALTER ROLE streams_updater SET default_transaction_read_only = on;

-- Which statements take long, for the doctor and for people: `streams migrate` may not create this by the deployer's
-- login. It counts once the server has loaded the library (shared_preload_libraries).
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') THEN
        CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    END IF;
END $$;
