"""Rows that lie there already: finished tasks with their history, claims, agents and scores, made by SQL.

Eleven rows a task: itself, five events of history, five claims. Indexes are dropped and built anew, which is
faster; primary keys stay. Claims are random keys, as digests are, half of them in the window before, in which
every event is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_ROWS_PER_TASK: Final = 11
_TABLES: Final = ("tasks", "event_history", "event_claims", "agents", "agent_registry", "agent_scores")

# Indexes of the large tables that are no constraints.
_INDEXES: Final = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid IN ('tasks'::regclass, 'event_history'::regclass)
  AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
"""

# From the month's beginning (or 20 days ago) until a minute ago, in the order of their ids.
_TASKS: Final = """
INSERT INTO tasks (id, created_at, status, kind, agent_id, user_id, priority, progress, note, payload, result,
    assigned_at, started_at, finished_at, updated_at,
    created_stamp, agent_stamp, status_stamp, progress_stamp, outcome_stamp)
SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid,
    at, 'completed', 'research', md5('agent' || n % 200)::uuid, md5('user' || n % 1000)::uuid, n % 10,
    0.5, 'half way there', prose, prose, at, at, at, at, stamp, stamp, stamp, stamp, stamp
FROM (
    SELECT n, first + n * span / $1 AS ms, md5(n::text) AS h,
        to_timestamp((first + n * span / $1) / 1000.0) AS at,
        decode(md5('stamp' || n), 'hex') || decode(md5('more' || n), 'hex') AS stamp,
        jsonb_build_object('prompt', repeat(md5(n::text) || ' ', 6)) AS prose
    FROM generate_series(1, $1::bigint) AS n, (
        SELECT (extract(epoch FROM since) * 1000)::bigint AS first,
            (extract(epoch FROM now() - interval '1 minute' - since) * 1000)::bigint AS span
        FROM (SELECT greatest(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                              now() - interval '20 days') AS since) AS begun
    ) AS range
) AS made
"""

_HISTORY: Final = """
INSERT INTO event_history (time, entity_id, type, source, event_id, batch_id, trace_id, data)
SELECT created_at, id, (ARRAY['task.created', 'task.assigned', 'task.started', 'task.progressed',
        'task.completed'])[k],
    'urn:prefill', id || ':' || k, agent_id, md5(id || 'trace'),
    CASE WHEN k IN (1, 5) THEN payload ELSE jsonb_build_object('task_id', id, 'agent_id', agent_id) END
FROM tasks, generate_series(1, 5) AS k
"""

_CLAIMS: Final = """
INSERT INTO event_claims (window_no, key)
SELECT dedup_window(now()) - (n % 2)::integer, md5('claim' || n)::uuid
FROM generate_series(1, $1::bigint) AS n
"""

_SCORES: Final = """
INSERT INTO agent_scores (agent_id, day, completed, points)
SELECT agent_id, (finished_at AT TIME ZONE 'UTC')::date, count(*), 10 * count(*) FROM tasks GROUP BY 1, 2
"""

_REGISTRY: Final = "INSERT INTO agent_registry SELECT DISTINCT agent_id FROM agent_scores"

_AGENTS: Final = """
INSERT INTO agents (id, status, name, reputation_score, created_at, updated_at)
SELECT agent_id, 'active', 'agent', sum(points), now() - interval '20 days', now() - interval '1 minute'
FROM agent_scores GROUP BY agent_id
"""


async def prefill(database: Connection, rows: int) -> None:
    """Fill the emptied tables with about this many rows."""
    tasks = max(1, rows // _ROWS_PER_TASK)
    indexes = await database.fetch(_INDEXES)
    await database.execute("SET synchronous_commit = off")
    await database.execute("SET maintenance_work_mem = '512MB'")
    try:
        for index in indexes:
            await database.execute(f"DROP INDEX {index['name']}")
        await database.execute(_TASKS, tasks)
        await database.execute(_HISTORY)
        await database.execute(_CLAIMS, tasks * 5)
        for statement in (_SCORES, _REGISTRY, _AGENTS):
            await database.execute(statement)
    finally:
        for index in indexes:
            # The definition of an index on a partitioned table says ONLY; partitions need it, too.
            await database.execute(index["definition"].replace(" ON ONLY ", " ON "))
        await database.execute("RESET synchronous_commit")
        await database.execute("RESET maintenance_work_mem")
    await database.execute(f"VACUUM (ANALYZE) {', '.join(_TABLES)}")
