"""EXPLAIN guards: what the API's lists really run keeps its index, and reads about a page."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest

from handlers.paging import encode_cursor, scope_of
from handlers.together import TASKS_BY_ID
from tests.api_support import NoCache, client_of, recording
from tests.integration.test_indexes import AGENT, FILL, USER, scans

ID = AGENT.split("'")[1]
USER_ID = USER.split("'")[1]

# Rounds as the others are filled: in three months, few of them open.
ROUNDS = """
SELECT create_partition(t, period_start('month', now(), -n))
FROM unnest(ARRAY['rounds', 'round_tallies']) t, generate_series(1, 3) n;
CREATE FUNCTION uuid7(moment timestamptz, n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
        || '70008000' || lpad(to_hex(n), 12, '0'))::uuid
$$;
INSERT INTO rounds (id, created_at, opened_at, decided_at)
SELECT uuid7(past(n), n), past(n), past(n), CASE WHEN n % 100 <> 0 THEN past(n) END
FROM generate_series(1, 12000) n;
INSERT INTO round_tallies (round_id, choice, created_at, weight, votes)
SELECT uuid7(past(n), n), 'a', past(n), 1, 1 FROM generate_series(1, 12000) n;
ANALYZE;
"""


@dataclass(frozen=True)
class Guard:
    path: str
    indexes: set[str]
    """What partitions may be read through, by the names on the parents."""
    rows: int
    """How many rows may be read, at most: those of a page, from each partition and branch."""


GUARDS = [
    Guard("/v1/tasks", {"idx_tasks_created_at"}, 100),
    Guard("/v1/tasks?sort=created_at", {"idx_tasks_created_at"}, 100),
    Guard(f"/v1/tasks?user_id={USER_ID}", {"idx_tasks_user_created"}, 100),
    Guard(f"/v1/users/{USER_ID}/tasks", {"idx_tasks_user_created"}, 100),
    Guard(f"/v1/agents/{ID}/tasks", {"idx_tasks_agent_status_date"}, 300),
    Guard(f"/v1/agents/{ID}/tasks?status=completed", {"idx_tasks_agent_status_date"}, 100),
    Guard("/v1/agents", {"agents_pkey"}, 100),
    Guard("/v1/agents?sort=-created_at", {"idx_agents_created_at"}, 100),
    Guard("/v1/agents?sort=-reputation_score", {"idx_agents_score_rank"}, 100),
    Guard("/v1/agents?include=tasks", {"agents_pkey", "idx_tasks_agent_status_date"}, 2500),
    Guard("/v1/rounds", {"rounds_pkey", "round_tallies_pkey"}, 400),
    Guard("/v1/rounds?state=open", {"idx_rounds_open", "round_tallies_pkey"}, 400),
    Guard(
        f"/v1/agents/{ID}/stats",
        {"agents_pkey", "agent_scores_pkey", "idx_recent_tasks", "idx_tasks_agent_status", "idx_tasks_status",
         "idx_tasks_agent_status_date"},
        600,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
async def filled(stack: Any, template: str) -> AsyncIterator[str]:
    name = f"streams_api_plans_{os.getpid()}"
    server = await asyncpg.connect(stack.database)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = urlunsplit(urlsplit(stack.database)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(url)
    await connection.execute(FILL + ROUNDS)
    await connection.close()
    yield url
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture(scope="module")
async def explained(filled: str) -> AsyncIterator[Any]:
    """A function from a path to the plans of what it ran, and from a partition's index to its parent's."""
    said: list[Any] = []

    async with recording(filled, said, size=1) as pool, client_of(pool, NoCache()) as client:
        plain = await asyncpg.connect(filled)
        rows = await plain.fetch(
            "SELECT c.relname AS child, p.relname AS parent FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent"
        )
        parents = {row["child"]: row["parent"] for row in rows}

        async def explain(path: str) -> list[dict[str, Any]]:
            said.clear()
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            plans = []
            for query in said:
                text = await plain.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.query}", *query.args)
                plans.append(json.loads(text)[0]["Plan"])
            return plans

        yield client, explain, parents
        await plain.close()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.path.replace(ID, "ID"))
async def test_a_list_keeps_its_index_and_reads_about_a_page(explained: Any, guard: Guard) -> None:
    _, explain, parents = explained
    [plan] = await explain(guard.path)
    nodes = [node for node in scans(plan) if node["Actual Loops"]]
    used = {parents.get(node["Index Name"], node["Index Name"]) for node in nodes if "Index Name" in node}
    assert used, plan
    assert used <= guard.indexes
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in nodes
    )
    assert read <= guard.rows, json.dumps(plan, indent=1)


async def test_a_cursor_prunes_the_months_that_were_read(explained: Any) -> None:
    client, explain, _ = explained
    [first] = await explain("/v1/tasks?limit=5")
    oldest = (await client.get("/v1/tasks?sort=created_at&limit=2")).json()["data"][1]
    position = (datetime.fromisoformat(oldest["created_at"]), UUID(oldest["id"]))
    scope = scope_of("tasks", None, None, None, None, None, None, "-created_at")
    [late] = await explain(f"/v1/tasks?limit=5&cursor={encode_cursor(position, scope)}")
    tables = {node["Relation Name"] for node in scans(late)}
    assert len(tables) < len({node["Relation Name"] for node in scans(first)})


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_tasks_that_are_loaded_together_come_from_their_month_by_key(
    explained: Any, filled: str, mode: str
) -> None:
    _, _, parents = explained
    connection = await asyncpg.connect(filled, server_settings={"plan_cache_mode": mode})
    await connection.execute(f"PREPARE many AS {TASKS_BY_ID}")
    wanted = range(100, 3300, 100)  # few of those that are as old
    ids, times = (", ".join(text.format(n) for n in wanted) for text in ("pick(1, {})", "past({})"))
    execute = f"EXECUTE many(ARRAY[{ids}], ARRAY[{times}], past(3200), past(100))"
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}")
    await connection.close()
    plan = json.loads(text)[0]["Plan"]
    nodes = [node for node in scans(plan) if node["Actual Loops"] and "Index Name" in node]
    assert plan["Actual Rows"] == len(wanted)
    assert len({node["Relation Name"] for node in nodes}) == 1
    assert {parents[node["Index Name"]] for node in nodes} <= {"tasks_pkey", "idx_tasks_created_at"}
    read = ((n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) * n["Actual Loops"] for n in nodes)
    assert sum(read) == len(wanted)


async def test_the_votes_of_a_round_stay_in_its_month_and_index(explained: Any, filled: str) -> None:
    _, explain, parents = explained
    connection: Any = await asyncpg.connect(filled)
    row = await connection.fetchrow("SELECT id, created_at FROM rounds ORDER BY id DESC LIMIT 1")
    await connection.execute(
        "INSERT INTO votes (round_id, agent_id, created_at, choice, weight, cast_at, stamp)"
        " SELECT $1, pick(0, n), $2, 'a', 1, now(), '' FROM generate_series(1, 50) n",
        row["id"],
        row["created_at"],
    )
    await connection.close()
    [plan] = await explain(f"/v1/rounds/{row['id']}/votes")
    nodes = list(scans(plan))
    assert len({node["Relation Name"] for node in nodes}) == 1, "the month of the round"
    assert all("Index Name" in node for node in nodes)
    assert {parents[node["Index Name"]] for node in nodes} <= {
        "votes_pkey", "idx_votes_round_agent", "idx_votes_round_id"
    }  # fmt: skip
