-- depends: 0001.engine

-- `created_at` is the instant inside the UUIDv7, so (id, created_at) is as unique as the id.
-- A stamp is the place of the event that set a group of columns in the order (time, rank, source, id).
CREATE TABLE tasks (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'assigned', 'processing', 'completed', 'failed', 'cancelled')),
    kind text,
    agent_id uuid,
    user_id uuid,
    priority smallint NOT NULL DEFAULT 0,
    progress double precision,
    note text,
    payload jsonb,
    result jsonb,
    error jsonb,
    retryable boolean,
    reason text,
    assigned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL,
    created_stamp bytea,
    agent_stamp bytea,
    status_stamp bytea,
    progress_stamp bytea,
    outcome_stamp bytea,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

-- Found under the guide's names. On a partitioned table each is a template: every partition has its own.
CREATE INDEX idx_tasks_agent_id ON tasks (agent_id);
CREATE INDEX idx_tasks_status ON tasks (status);
CREATE INDEX idx_tasks_created_at ON tasks (created_at DESC);
CREATE INDEX idx_tasks_agent_status ON tasks (agent_id, status);
CREATE INDEX idx_tasks_agent_status_date ON tasks (agent_id, status, created_at DESC);
-- The guide's "recent" is now() - 30 days, which no index predicate may say. Recency comes from partition
-- pruning; what an agent still has to do is what such an index is asked for.
CREATE INDEX idx_recent_tasks ON tasks (agent_id, status) WHERE status IN ('pending', 'assigned', 'processing');
-- Not in the guide, though its cache key `ut:` (a user's tasks) needs it.
CREATE INDEX idx_tasks_user_created ON tasks (user_id, created_at DESC) WHERE user_id IS NOT NULL;

-- Five or so updates in a task's life: room in the page keeps its versions together, and lets those that
-- touch no index (progress, notes) stay heap-only. Vacuum and analyze as the guide has them: at 5 % and 2 %.
INSERT INTO partitioned_tables (table_name, kind, ahead, retention, storage)
VALUES ('tasks', 'month', 3, 12,
        'fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02');

CREATE TABLE rounds (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    task_id uuid,
    options text[],
    quorum numeric(12, 6),
    opened_at timestamptz,
    closes_at timestamptz,
    closed_at timestamptz,
    opened_stamp bytea,
    closed_stamp bytea,
    decided_choice text,
    decided_at timestamptz,
    decided_votes integer,
    decided_tally jsonb,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

-- Updated when opened, closed and decided; no index is touched by that.
INSERT INTO partitioned_tables (table_name, kind, ahead, retention, storage)
VALUES ('rounds', 'month', 3, 12,
        'fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02');

-- The latest word of an agent in a round; `created_at` is the round's, `cast_at` the event's time.
CREATE TABLE votes (
    round_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    choice text,
    weight numeric(12, 6),
    confidence double precision,
    rationale text,
    cast_at timestamptz NOT NULL,
    retracted boolean NOT NULL DEFAULT false,
    late boolean NOT NULL DEFAULT false,
    stamp bytea NOT NULL,
    PRIMARY KEY (round_id, agent_id, created_at)
) PARTITION BY RANGE (created_at);

CREATE INDEX idx_votes_agent_id ON votes (agent_id);
CREATE INDEX idx_votes_round_id ON votes (round_id);
CREATE INDEX idx_votes_created_at ON votes (created_at DESC);
CREATE INDEX idx_votes_round_agent ON votes (round_id, agent_id);

-- Most votes are cast once: little room is enough.
INSERT INTO partitioned_tables (table_name, kind, ahead, retention, storage)
VALUES ('votes', 'month', 3, 12,
        'fillfactor = 95, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02');

CREATE TABLE round_tallies (
    round_id uuid NOT NULL,
    choice text NOT NULL,
    created_at timestamptz NOT NULL,
    weight numeric(18, 6) NOT NULL,
    votes integer NOT NULL,
    PRIMARY KEY (round_id, choice, created_at)
) PARTITION BY RANGE (created_at);

-- Small rows, updated with every batch of votes, in no index but the primary key: heap-only if there is room.
INSERT INTO partitioned_tables (table_name, kind, ahead, retention, storage)
VALUES ('round_tallies', 'month', 3, 12,
        'fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02');

-- One row per agent ever heard of; locked before anything about the agent is written.
CREATE TABLE agent_registry (
    agent_id uuid PRIMARY KEY
);

CREATE TABLE agents (
    id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'processing', 'inactive', 'paused')),
    name text,
    capabilities text[] NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    reputation_score integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    registered_stamp bytea,
    status_stamp bytea,
    PRIMARY KEY (id, status)
) PARTITION BY LIST (status);
CREATE TABLE agents_active PARTITION OF agents FOR VALUES IN ('active', 'processing')
WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE TABLE agents_inactive PARTITION OF agents FOR VALUES IN ('inactive', 'paused')
WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX idx_agents_status ON agents (status);
CREATE INDEX idx_agents_active ON agents (is_active);
CREATE INDEX idx_agents_created_at ON agents (created_at DESC);
CREATE INDEX idx_agents_score_rank ON agents (reputation_score DESC, created_at);
CREATE INDEX idx_active_agents ON agents (status) WHERE is_active = true;

-- What an agent earned on a day (UTC): the sum of what its tasks and votes contribute.
CREATE TABLE agent_scores (
    agent_id uuid NOT NULL,
    day date NOT NULL,
    completed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    agreed integer NOT NULL DEFAULT 0,
    points integer NOT NULL DEFAULT 0,
    PRIMARY KEY (agent_id, day)
) WITH (
    -- Today's rows are updated all day long; no index holds a counter, so that updates stay heap-only.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);
CREATE INDEX idx_agent_scores_day ON agent_scores (day);

-- Owned by an identity service; here for the read API.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    name text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_users_email ON users (email);
CREATE INDEX idx_users_created_at ON users (created_at DESC);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    roles text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX idx_sessions_user_id ON sessions (user_id);
CREATE INDEX idx_sessions_expires_at ON sessions (expires_at);
-- Unique: a token that stood for two sessions would stand for two users.
CREATE UNIQUE INDEX idx_sessions_token_hash ON sessions (token_hash);
CREATE INDEX idx_sessions_user_expires ON sessions (user_id, expires_at DESC);
-- The guide's predicate is expires_at > now(), which no index may say. Leading with expires_at makes the valid
-- ones a range at its end, with their users in the index; one user's are idx_sessions_user_expires' work.
CREATE INDEX idx_valid_sessions ON sessions (expires_at, user_id);
