-- depends: 0004.privileges

-- A group role for updaters, who keep leaderboards: scores and agents' names, nothing else. Where roles may not
-- be created it goes on without, as 0000.roles does; whoever makes the role later runs the GRANTs below.
DO $$
BEGIN
    IF to_regrole('streams_scores') IS NULL THEN
        BEGIN
            CREATE ROLE streams_scores NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL; -- a migration of another database was faster
            WHEN insufficient_privilege THEN
                RAISE NOTICE '% may not create the role streams_scores; going on without it', current_user;
                RETURN;
        END;
    END IF;
    GRANT SELECT ON agent_scores TO streams_scores;
    GRANT SELECT (id, name) ON agents TO streams_scores;
    BEGIN
        GRANT USAGE ON SCHEMA public TO streams_scores;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE '% may not grant rights on the schema public', current_user;
    END;
END $$;
