-- Four group roles without a login. Logins are made members of them by whoever runs the cluster:
--   streams_migrator  owns tables and functions; `streams migrate` and `streams partitions apply`
--   streams_writer    workers
--   streams_reader    the read API, people, dashboards
--   streams_scores    updaters, which keep leaderboards: scores and agents' names
-- Roles belong to the cluster, not to the database: they may be there already, made by another database
-- or by an administrator. Who may not create them goes on without; `SELECT grant_privileges()` makes up
-- for it once they exist.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['streams_migrator', 'streams_writer', 'streams_reader', 'streams_scores'] LOOP
        IF to_regrole(role_name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- a migration of another database was faster
                WHEN insufficient_privilege THEN
                    RAISE NOTICE '% may not create the role %; going on without it', current_user, role_name;
            END;
        END IF;
    END LOOP;
END $$;

-- Functions that run with their owner's rights look names up in `public`: nobody else may create there.
-- (It is the default from PostgreSQL 15 on, but not in databases that were upgraded.)
DO $$
BEGIN
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    IF to_regrole('streams_migrator') IS NOT NULL THEN
        GRANT USAGE, CREATE ON SCHEMA public TO streams_migrator;
        -- From 16 on a role's creator is a member who may not become it, unless it is granted again.
        IF NOT pg_has_role(current_user, 'streams_migrator',
                           CASE WHEN current_setting('server_version_num')::integer >= 160000
                                THEN 'SET' ELSE 'MEMBER' END) THEN
            EXECUTE format('GRANT streams_migrator TO %I', current_user);
        END IF;
    END IF;
    IF to_regrole('streams_writer') IS NOT NULL AND to_regrole('streams_reader') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA public TO streams_writer, streams_reader;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE '% may not grant rights on the schema public (%)', current_user, SQLERRM;
END $$;
