"""EXPLAIN guards: each of the guide's queries keeps its index, and dates keep pruning partitions."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

AGENT = "'00000000-0000-4000-8000-000000000007'::uuid"
USER = "'00000000-0000-4000-8000-000000000009'::uuid"

# Rows in three whole months before this one, in each enough for an index to be the better way to a few,
# whatever day it is.
FILL = """
SELECT create_partition(t, period_start('month', now(), -n))
FROM unnest(ARRAY['tasks', 'votes', 'event_history']) t, generate_series(1, 3) n;
CREATE FUNCTION pick(kind int, n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(kind), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
$$;
CREATE FUNCTION past(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT period_start('month', now()) - n * interval '10 minutes'
$$;
INSERT INTO tasks (id, created_at, status, agent_id, user_id, updated_at)
SELECT pick(1, n), past(n),
       CASE WHEN n % 100 = 0 THEN 'pending' WHEN n % 100 = 1 THEN 'processing' WHEN n % 100 < 5 THEN 'failed'
            ELSE 'completed' END,
       pick(0, n % 100), pick(0, n % 500), now()
FROM generate_series(1, 12000) n;
INSERT INTO votes (round_id, agent_id, created_at, choice, weight, cast_at, stamp)
SELECT pick(2, n / 7), pick(0, n % 100), past(n / 7 * 7 + 7), 'a', 1, now(), ''
FROM generate_series(1, 12000) n;
INSERT INTO agents (id, status, reputation_score, is_active, created_at, updated_at)
SELECT pick(0, n),
       CASE WHEN n % 50 = 0 THEN 'processing' ELSE (ARRAY['inactive', 'paused', 'active'])[1 + n % 3] END,
       n, n % 21 = 2, past(n), now()
FROM generate_series(1, 5000) n;
INSERT INTO agent_scores (agent_id, day, points)
SELECT pick(0, n % 100), current_date - n / 100, n FROM generate_series(0, 9999) n;
INSERT INTO users (id, email, created_at) SELECT pick(0, n), n || '@example.org', past(n)
FROM generate_series(1, 5000) n;
INSERT INTO sessions (id, user_id, token_hash, expires_at)
SELECT pick(3, n), pick(0, n % 500), decode(md5(n::text), 'hex'), now() + (20 - n) * interval '1 minute'
FROM generate_series(1, 5000) n;
INSERT INTO event_history (time, entity_id, type, source, event_id, batch_id, data)
SELECT past(n), pick(1, n % 1000), 'task.created', 's', n::text, pick(4, n), '{}'
FROM generate_series(1, 12000) n;
INSERT INTO outbox (batch_id, created_at, messages) SELECT pick(4, n), past(n), ''
FROM generate_series(1, 3000) n;
ANALYZE;
"""


@dataclass(frozen=True)
class Guard:
    query: str
    indexes: set[str]
    """One of these, by the name on the parent table, must be what each partition is read through."""
    partitions: int | None = None
    """How many partitions may be read, at most."""


GUARDS = {
    "an agent's tasks of one status, newest first": Guard(
        f"SELECT * FROM tasks WHERE agent_id = {AGENT} AND status = 'completed'"
        " ORDER BY created_at DESC LIMIT 10",
        {"idx_tasks_agent_status_date"},
    ),
    "an agent's recent tasks": Guard(
        f"SELECT * FROM tasks WHERE agent_id = {AGENT} AND status = 'failed'"
        " AND created_at > now() - interval '30 days'",
        {"idx_tasks_agent_status_date", "idx_tasks_agent_status"},
        partitions=5,
    ),
    "what an agent still has to do": Guard(
        f"SELECT id FROM tasks WHERE agent_id = {AGENT} AND status IN ('pending', 'assigned', 'processing')",
        {"idx_recent_tasks", "idx_tasks_agent_status", "idx_tasks_agent_status_date"},
    ),
    "an agent with its tasks, in one query": Guard(
        "SELECT a.id, a.name, json_agg(json_build_object('id', t.id, 'status', t.status))"
        f" FROM agents a LEFT JOIN tasks t ON a.id = t.agent_id WHERE a.id = {AGENT} GROUP BY a.id, a.name",
        {
            "agents_pkey",
            "idx_tasks_agent_id",
            "idx_tasks_agent_status",
            "idx_tasks_agent_status_date",
        },
    ),
    "tasks of one status": Guard("SELECT * FROM tasks WHERE status = 'pending'", {"idx_tasks_status"}),
    "the newest tasks": Guard(
        "SELECT * FROM tasks ORDER BY created_at DESC LIMIT 100", {"idx_tasks_created_at"}
    ),
    "tasks page by page": Guard(
        "SELECT * FROM tasks WHERE id > pick(1, 50) ORDER BY id LIMIT 21", {"tasks_pkey"}
    ),
    "one task, by id and the date inside it": Guard(
        "SELECT * FROM tasks WHERE id = pick(1, 50) AND created_at = past(50)",
        {"tasks_pkey", "idx_tasks_created_at"},
        partitions=1,
    ),
    "a user's tasks": Guard(
        f"SELECT * FROM tasks WHERE user_id = {USER} ORDER BY created_at DESC LIMIT 20",
        {"idx_tasks_user_created"},
    ),
    "the leaderboard": Guard(
        "SELECT * FROM agents ORDER BY reputation_score DESC LIMIT 100", {"idx_agents_score_rank"}
    ),
    "the leaderboard of a week": Guard(
        "SELECT agent_id, sum(points) FROM agent_scores WHERE day >= current_date - 7 GROUP BY agent_id",
        {"idx_agent_scores_day"},
    ),
    "one agent": Guard("SELECT * FROM agents WHERE id = pick(0, 50)", {"agents_pkey"}, partitions=2),
    "agents that are active": Guard(
        "SELECT id FROM agents WHERE status = 'active' AND is_active",
        {"idx_active_agents", "idx_agents_active"},
        partitions=1,
    ),
    "agents of one status": Guard(
        "SELECT count(*) FROM agents WHERE status = 'processing'",
        {"idx_agents_status", "agents_pkey"},
        partitions=1,
    ),
    "agents in service": Guard(
        "SELECT id FROM agents WHERE is_active", {"idx_agents_active", "idx_active_agents"}
    ),
    "the newest agents": Guard(
        "SELECT * FROM agents ORDER BY created_at DESC LIMIT 20", {"idx_agents_created_at"}
    ),
    "a user by e-mail": Guard("SELECT * FROM users WHERE email = '7@example.org'", {"idx_users_email"}),
    "the newest users": Guard(
        "SELECT * FROM users ORDER BY created_at DESC LIMIT 20", {"idx_users_created_at"}
    ),
    "the session of a token": Guard(
        "SELECT * FROM sessions WHERE token_hash = decode(md5('7'), 'hex')", {"idx_sessions_token_hash"}
    ),
    "a user's valid sessions": Guard(
        f"SELECT * FROM sessions WHERE user_id = {USER} AND expires_at > now() ORDER BY expires_at DESC",
        {"idx_sessions_user_expires", "idx_sessions_user_id", "idx_valid_sessions"},
    ),
    "all valid sessions": Guard(
        "SELECT * FROM sessions WHERE expires_at > now()", {"idx_sessions_expires_at", "idx_valid_sessions"}
    ),
    "users with a valid session": Guard(
        "SELECT DISTINCT user_id FROM sessions WHERE expires_at > now()",
        {"idx_valid_sessions", "idx_sessions_expires_at"},
    ),
    "votes of a round": Guard(
        "SELECT * FROM votes WHERE round_id = pick(2, 50)",
        {"votes_pkey", "idx_votes_round_id", "idx_votes_round_agent"},
    ),
    "an agent's vote in a round": Guard(
        f"SELECT * FROM votes WHERE round_id = pick(2, 50) AND agent_id = {AGENT} AND created_at = past(357)",
        {"votes_pkey", "idx_votes_round_agent", "idx_votes_round_id", "idx_votes_created_at"},
        partitions=1,
    ),
    "an agent's votes": Guard(f"SELECT * FROM votes WHERE agent_id = {AGENT}", {"idx_votes_agent_id"}),
    "the newest votes": Guard(
        "SELECT * FROM votes ORDER BY created_at DESC LIMIT 20", {"idx_votes_created_at"}
    ),
    "a task's life": Guard(
        "SELECT * FROM event_history WHERE entity_id = pick(1, 5) ORDER BY time", {"idx_event_history_entity"}
    ),
    "what was left in the outbox": Guard(
        "SELECT * FROM outbox WHERE created_at < now() - interval '2 s' ORDER BY created_at LIMIT 20",
        {"idx_outbox_created_at"},
    ),
}

GUIDE = {
    "idx_tasks_agent_id",
    "idx_tasks_status",
    "idx_tasks_created_at",
    "idx_tasks_agent_status",
    "idx_agents_status",
    "idx_agents_active",
    "idx_agents_created_at",
    "idx_users_email",
    "idx_users_created_at",
    "idx_sessions_user_id",
    "idx_sessions_expires_at",
    "idx_sessions_token_hash",
    "idx_votes_agent_id",
    "idx_votes_round_id",
    "idx_votes_created_at",
    "idx_tasks_agent_status_date",
    "idx_agents_score_rank",
    "idx_sessions_user_expires",
    "idx_votes_round_agent",
    "idx_active_agents",
    "idx_recent_tasks",
    "idx_valid_sessions",
}


@pytest.fixture(scope="module")
async def filled(stack: Any, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with enough rows for its plans to mean something."""
    name = f"streams_indexes_{os.getpid()}"
    server = await asyncpg.connect(stack.database)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    conn = await asyncpg.connect(urlunsplit(urlsplit(stack.database)._replace(path=f"/{name}")))
    await conn.execute(FILL)
    yield conn
    await conn.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture(scope="module")
async def parents(filled: asyncpg.Connection) -> dict[str, str]:
    """From a partition's index to the name it has on the parent."""
    rows = await filled.fetch(
        "SELECT c.relname AS child, p.relname AS parent FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE c.relkind = 'i'"
    )
    return {row["child"]: row["parent"] for row in rows}


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table or an index."""
    if "Index Name" in node or "Relation Name" in node:
        yield node
    for child in node.get("Plans", ()):
        yield from scans(child)


@pytest.mark.parametrize("name", GUARDS)
async def test_the_plan_keeps_its_index(
    filled: asyncpg.Connection, parents: dict[str, str], name: str
) -> None:
    guard = GUARDS[name]
    plan = json.loads(await filled.fetchval(f"EXPLAIN (FORMAT JSON) {guard.query}"))[0]["Plan"]
    nodes = list(scans(plan))
    used = {parents.get(node["Index Name"], node["Index Name"]) for node in nodes if "Index Name" in node}
    assert used, plan
    assert used <= guard.indexes
    # A month without rows may be read in whichever way; one with rows may not be read as a whole.
    read_whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    for relation in read_whole:
        assert await filled.fetchval(f"SELECT count(*) FROM {relation}") == 0, relation
    if guard.partitions is not None:
        relations = {node["Relation Name"] for node in nodes if "Relation Name" in node}
        assert len(relations) <= guard.partitions, relations


async def test_all_indexes_of_the_guide_exist_and_are_valid(filled: asyncpg.Connection) -> None:
    rows = await filled.fetch(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid"
    )
    assert {row["relname"] for row in rows} >= GUIDE


async def test_every_index_of_the_guide_is_guarded() -> None:
    assert set().union(*(guard.indexes for guard in GUARDS.values())) >= GUIDE
