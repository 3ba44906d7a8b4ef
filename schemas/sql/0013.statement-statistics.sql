-- depends: 0012.open-rounds

-- Which statements take long, for the doctor and for people (docs/doctor.md). The extension needs a superuser, or
-- a managed server's administrator: of the two that we may act as, the one who logged in. Where that role may not
-- create it, or the server does not bring it, it goes on without. (What is counted needs the library, too:
-- shared_preload_libraries.)
SET LOCAL ROLE NONE;

DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE '% may not create the extension pg_stat_statements; going on without it', current_user;
    WHEN undefined_file OR feature_not_supported THEN
        RAISE NOTICE 'this server does not bring the extension pg_stat_statements; going on without it';
END $$;
