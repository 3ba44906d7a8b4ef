-- depends: 0002.application

-- Rows as handlers send them: an array of one of these is read by one unnest() at 14 microseconds a row, where
-- an array for each of 23 columns takes 38. A type is never altered, for workers of the old and of the new
-- version run side by side: a handler that needs another shape brings another type.
CREATE TYPE task_change AS (
    id uuid,
    created_at timestamptz,
    updated_at timestamptz,
    status text,
    kind text,
    user_id uuid,
    priority smallint,
    agent_id uuid,
    progress double precision,
    note text,
    finished_at timestamptz,
    retryable boolean,
    reason text,
    assigned_at timestamptz,
    started_at timestamptz,
    created_stamp bytea,
    agent_stamp bytea,
    status_stamp bytea,
    progress_stamp bytea,
    outcome_stamp bytea,
    payload jsonb,
    result jsonb,
    error jsonb,
    -- Whether the large values are to be written, too.
    other_creation boolean,
    other_outcome boolean
);

CREATE TYPE round_change AS (
    id uuid,
    created_at timestamptz,
    opened_stamp bytea,
    opened_at timestamptz,
    options text[],
    quorum numeric,
    task_id uuid,
    closes_at timestamptz,
    closed_stamp bytea,
    closed_at timestamptz,
    decided_choice text,
    decided_at timestamptz,
    decided_votes integer,
    decided_tally jsonb
);

CREATE TYPE vote_change AS (
    round_id uuid,
    agent_id uuid,
    created_at timestamptz,
    stamp bytea,
    cast_at timestamptz,
    retracted boolean,
    choice text,
    weight numeric,
    confidence double precision,
    rationale text,
    late boolean
);

CREATE TYPE agent_change AS (
    id uuid,
    created_at timestamptz,
    updated_at timestamptz,
    status text,
    status_stamp bytea,
    name text,
    capabilities text[],
    is_active boolean,
    registered_stamp bytea
);
