-- depends: 0004.privileges

-- Messages that were delivered suspiciously often and are being tried alone (streams/suspects.py), with the
-- processes that began and did not come to an end. A row that stays is a trial that somebody died in.
CREATE TABLE suspect_trials (
    key uuid PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT now(),
    -- Those that had stored something else before, and those of which nothing was known yet.
    proven uuid[] NOT NULL DEFAULT '{}',
    unproven uuid[] NOT NULL DEFAULT '{}'
);

ALTER FUNCTION grant_privileges() RENAME TO grant_privileges_0004;

-- As before, and the rights on what came with this migration.
CREATE FUNCTION grant_privileges() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    PERFORM grant_privileges_0004();
    IF to_regrole('streams_writer') IS NOT NULL THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON suspect_trials TO streams_writer;
    END IF;
END $$;
REVOKE ALL ON FUNCTION grant_privileges() FROM PUBLIC;

DO $$ BEGIN PERFORM grant_privileges(); END $$;
