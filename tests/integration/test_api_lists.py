"""Lists and figures: nested tasks, statistics, rounds, numbered pages, orders; and what each costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from handlers import paging, views
from schemas.cache import agent_stats_key, agent_tag
from schemas.fields import dated
from schemas.ids import uuid7
from streams.cache import Cache
from tests.api_support import (
    NoCache,
    add_agent,
    add_event,
    add_round,
    add_task,
    add_vote,
    client_of,
    id_after,
    insert,
    reading,
    recording,
)

Reading = tuple[httpx.AsyncClient, Cache]


@pytest.fixture
async def api(database: asyncpg.Pool, redis_url: str) -> AsyncIterator[Reading]:
    async with reading(database, redis_url) as both:
        yield both


async def all_pages(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, Any]]:
    rows, cursor = [], None
    while True:
        answer = await client.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        body = answer.raise_for_status().json()
        rows += body["data"]
        cursor = body["pagination"]["cursor"]
        if cursor is None:
            return rows


async def test_agents_with_their_newest_tasks(api: Reading, database: asyncpg.Pool) -> None:
    client, cache = api
    agents = [await add_agent(database, reputation_score=n) for n in range(5)]
    tasks: dict[UUID, list[UUID]] = {agent: [] for agent in agents}
    statuses = [str(status) for status in views.TaskStatus]
    for n in range(12):  # of all statuses, for the first three; the others have none
        agent = agents[n % 3]
        tasks[agent].append(await add_task(database, id_after(n), agent_id=agent, status=statuses[n % 6]))
    for sort in ("id", "-created_at", "-reputation_score"):
        params = {"include": "tasks", "tasks_limit": 3, "limit": 2, "sort": sort}
        rows = await all_pages(client, "/v1/agents", **params)
        plain = await all_pages(client, "/v1/agents", sort=sort)
        assert [{k: v for k, v in row.items() if k != "tasks"} for row in rows] == plain
        for row in rows:
            newest = [str(i) for i in reversed(tasks[UUID(row["id"])])][:3]
            assert [task["id"] for task in row["tasks"]] == newest
    full = (await client.get(f"/v1/tasks?agent_id={agents[0]}&limit=1")).json()["data"][0]
    nested = (await client.get("/v1/agents?include=tasks&fields=name")).json()["data"]
    assert all(set(row) == {"name", "tasks"} for row in nested)
    assert full in [task for row in nested for task in row["tasks"]]
    assert (await client.get("/v1/agents?include=tasks&page=1")).status_code == 400
    await cache.invalidate(set(), {agent_tag(agents[0])})


async def test_the_figures_of_an_agent(api: Reading, database: asyncpg.Pool) -> None:
    client, cache = api
    agent, now = await add_agent(database), datetime.now(UTC)
    for status, count in (("pending", 1), ("assigned", 2), ("processing", 3), ("cancelled", 4)):
        for _ in range(count):
            await add_task(database, agent_id=agent, status=status)
    for seconds in (10, 20, 30):
        times = {"started_at": now, "finished_at": now + timedelta(seconds=seconds)}
        await add_task(database, agent_id=agent, status="completed", **times)
    for days, completed, failed, agreed in ((0, 3, 1, 2), (400, 5, 0, 0)):
        row = {"agent_id": agent, "day": now.date() - timedelta(days=days)}
        counts = {"completed": completed, "failed": failed, "agreed": agreed}
        points = 10 * completed - 5 * failed + 3 * agreed
        await insert(database, "agent_scores", row | counts | {"points": points})
    answer = await client.get(f"/v1/agents/{agent}/stats")
    body = answer.json()
    assert set(body) == set(views.STATS)
    ended = {"completed": 8, "failed": 1}
    assert body["tasks"] == {"pending": 1, "assigned": 2, "processing": 3, "cancelled": 4} | ended
    assert body["success_ratio"] == round(8 / 9, 4)
    today = {"points": 31, "completed": 3, "failed": 1, "agreed": 2, "success_ratio": 0.75}
    assert body["periods"]["daily"] == {"start": str(now.date())} | today
    assert body["periods"]["all_time"]["points"] == 81
    assert body["periods"]["all_time"]["start"] is None
    assert body["recent"] == {"tasks": 3, "p50_seconds": 20.0, "p95_seconds": 29.0}
    assert answer.headers["x-cache"] == "miss"
    assert (await client.get(f"/v1/agents/{agent}/stats")).headers["x-cache"] == "hit"
    picked = await client.get(f"/v1/agents/{agent}/stats?fields=tasks")
    assert picked.json() == {"tasks": body["tasks"]}
    await cache.invalidate({agent_stats_key(agent)}, set())
    assert (await client.get(f"/v1/agents/{agent}/stats")).headers["x-cache"] == "miss"
    unregistered = uuid4()
    await add_task(database, agent_id=unregistered, status="assigned")
    assert (await client.get(f"/v1/agents/{unregistered}/stats")).json()["success_ratio"] is None
    assert (await client.get(f"/v1/agents/{uuid4()}/stats")).status_code == 404


async def test_rounds_by_state_with_tallies(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    now = datetime.now(UTC)
    states: dict[str, dict[str, Any]] = {
        "open": {"opened_at": now, "quorum": Decimal("2.5")},
        "decided": {"opened_at": now, "decided_at": now, "decided_choice": "yes"},
        "closed": {"opened_at": now, "closed_at": now},
    }
    ids: dict[str, list[str]] = {state: [] for state in states}
    for n in range(9):
        state = list(states)[n % 3]
        ids[state].insert(0, str(await add_round(database, id_after(n), **states[state])))
    tally = {"round_id": UUID(ids["open"][0]), "created_at": dated(UUID(ids["open"][0]))}
    for choice, weight in (("no", "1.500000"), ("yes", "123456789012.000001"), ("gone", "0")):
        votes = {"weight": Decimal(weight), "votes": 0 if choice == "gone" else 1}
        await insert(database, "round_tallies", tally | {"choice": choice} | votes)
    for state, expected in ids.items():
        rows = await all_pages(client, "/v1/rounds", state=state, limit=2)
        assert [row["id"] for row in rows] == expected
    everything = await all_pages(client, "/v1/rounds", limit=4)
    assert [row["id"] for row in everything] == sorted(
        (i for each in ids.values() for i in each), reverse=True
    )
    for row in everything:
        one = await client.get(f"/v1/rounds/{row['id']}")
        assert one.json() == row, "the list shows what the round's own page shows"
    answer = await client.get("/v1/rounds?state=open&limit=1&fields=tallies")
    exact = b'{"choice" : "yes", "weight" : 123456789012.000001, "votes" : 1}'
    assert exact in answer.content, answer.text
    second = dated(UUID(everything[1]["id"])).isoformat()
    for name, count in (("created_from", 2), ("created_before", 7)):
        assert len(await all_pages(client, "/v1/rounds", **{name: second, "limit": 100})) == count
    picked = await client.get(f"/v1/rounds/{ids['open'][0]}?fields=id,tallies")
    assert set(picked.json()) == {"id", "tallies"}
    assert b"123456789012.000001" in picked.content, "picking fields loses no digit"


async def test_fields_of_votes_events_and_ranks(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    round_id, task, agent = await add_round(database), await add_task(database), await add_agent(database)
    for _ in range(3):
        await add_vote(database, round_id, choice="a")
        await add_event(database, task, data='{"n": 123456789012345678901}')
    today = datetime.now(UTC).date()
    await insert(database, "agent_scores", {"agent_id": agent, "day": today, "points": 1})
    votes = await all_pages(client, f"/v1/rounds/{round_id}/votes", fields="choice", limit=2)
    assert votes == [{"choice": "a"}] * 3
    events = await all_pages(client, f"/v1/tasks/{task}/events", fields="type,data", limit=2)
    assert events == [{"type": "task.created", "data": {"n": 123456789012345678901}}] * 3
    for _ in range(2):
        board = (await client.get("/v1/leaderboards/daily?fields=rank,name")).json()
        assert board["data"] == [{"rank": 1, "name": "scout"}]
        assert board["period"] == "daily"
    votes_path, events_path = f"/v1/rounds/{round_id}/votes", f"/v1/tasks/{task}/events"
    for path in (votes_path, events_path, "/v1/leaderboards/daily", "/v1/rounds"):
        assert (await client.get(path, params={"fields": "id,stamp"})).status_code == 400


async def test_numbered_pages_of_small_sets(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    user = uuid4()
    ids = [str(await add_task(database, id_after(n), user_id=user)) for n in range(7)]
    for path in ("/v1/tasks", f"/v1/users/{user}/tasks", f"/v1/tasks?user_id={user}&sort=-created_at"):
        read = []
        for page in range(1, 5):
            joint = "&" if "?" in path else "?"
            body = (await client.get(f"{path}{joint}page={page}&limit=3")).json()
            numbers = {"page": page, "limit": 3, "total_records": 7, "total_pages": 3}
            assert body["pagination"] == numbers
            read += [row["id"] for row in body["data"]]
        assert read == ids[::-1]
    for n in range(3):
        await add_agent(database, name=str(n))
        await add_round(database, id_after(n))
    for path in ("/v1/agents", "/v1/rounds"):
        body = (await client.get(path, params={"page": 2, "limit": 2, "fields": "created_at"})).json()
        assert body["pagination"]["total_records"] == 3
        assert [set(row) for row in body["data"]] == [{"created_at"}]
    assert (await client.get(f"/v1/users/{uuid4()}/tasks?page=1")).json()["pagination"]["total_pages"] == 0
    for page in ("0", "-1", "x", "10001"):
        assert (await client.get("/v1/tasks", params={"page": page})).status_code == 400
    large = {"agent_id": uuid4(), "note": "x" * 600_000}
    for n in range(2):
        await add_task(database, id_after(n), **large)
    refused = await client.get(f"/v1/tasks?agent_id={large['agent_id']}&page=1")
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "limit")


async def test_large_sets_have_no_numbered_pages(
    api: Reading, database: asyncpg.Pool, database_url: str
) -> None:
    client, _ = api
    agent = uuid4()
    fill = """
    INSERT INTO tasks (id, created_at, updated_at, agent_id)
    SELECT gen_random_uuid(), now(), now(), $1 FROM generate_series(1, $2::int)
    """
    await database.execute(fill, agent, paging.MAX_RECORDS)
    path = f"/v1/tasks?agent_id={agent}&page=100&limit=100"
    assert (await client.get(path)).json()["pagination"]["total_records"] == paging.MAX_RECORDS
    await database.execute(fill, agent, 1)
    counted = await client.get(f"/v1/tasks?agent_id={agent}&page=2")
    assert (counted.status_code, counted.json()["type"]) == (400, "/problems/too-many-records")
    assert "cursor" in counted.json()["detail"]
    await database.execute(fill, agent, 2 * paging.MAX_RECORDS)
    await database.execute("ANALYZE tasks")
    async with recorded(database_url) as (client, statements):
        assert (await client.get("/v1/tasks?page=1")).status_code == 400
    assert [statement.query.split()[0] for statement in statements] == ["EXPLAIN"], "the estimate is enough"


async def test_pages_in_either_order_meet_each_task_once_while_more_arrive(
    api: Reading, database: asyncpg.Pool
) -> None:
    client, _ = api
    ids = [str(await add_task(database, id_after(n), kind="old")) for n in range(9)]
    for sort, expected in (("created_at", ids), ("-created_at", ids[::-1])):
        met: list[str] = []
        cursor = None
        while True:
            params = {"limit": 2, "sort": sort} | ({"cursor": cursor} if cursor else {})
            body = (await client.get("/v1/tasks", params=params)).json()
            met += [row["id"] for row in body["data"] if row["kind"] == "old"]
            if len(met) < 9:  # behind and ahead of where we are
                await add_task(database, id_after(-100), kind="new")
                await add_task(database, id_after(100), kind="new")
            cursor = body["pagination"]["cursor"]
            if cursor is None:
                break
        assert met == expected


async def test_a_cursor_belongs_to_its_list_filters_and_order(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    agent = await add_agent(database)
    await add_agent(database)
    for n in range(3):
        await add_task(database, id_after(n), agent_id=agent, user_id=agent)
    first = {}
    for path in (
        "/v1/tasks",
        "/v1/tasks?sort=created_at",
        "/v1/tasks?status=pending",
        f"/v1/tasks?agent_id={agent}",
        f"/v1/users/{agent}/tasks",
        "/v1/agents",
        "/v1/agents?sort=-created_at",
        "/v1/agents?is_active=true",
    ):
        joint = "&" if "?" in path else "?"
        first[path] = (await client.get(f"{path}{joint}limit=1")).json()["pagination"]["cursor"]
    for path in first:
        for other, cursor in first.items():
            joint = "&" if "?" in path else "?"
            status = (await client.get(f"{path}{joint}cursor={cursor}&limit=100")).status_code
            assert status == (200 if path == other else 400), (path, other)
    # The same filters by another route are the same list; another page size and other fields are, too.
    cursor = first[f"/v1/tasks?agent_id={agent}"]
    assert (
        await client.get(f"/v1/agents/{agent}/tasks?cursor={cursor}&fields=id&limit=7")
    ).status_code == 200


@asynccontextmanager
async def recorded(database_url: str) -> AsyncIterator[tuple[httpx.AsyncClient, list[Any]]]:
    """A client whose statements are recorded, without caches."""
    said: list[Any] = []
    async with recording(database_url, said) as pool, client_of(pool, NoCache()) as client:
        yield client, said


async def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(
    database: asyncpg.Pool, database_url: str
) -> None:
    task, round_id, agent = uuid7(), uuid7(), uuid4()
    user = agent
    paths = {
        "/v1/agents": 1,
        "/v1/agents?sort=-reputation_score": 1,
        "/v1/agents?include=tasks&tasks_limit=20": 1,
        f"/v1/agents/{agent}": 1,
        f"/v1/agents/{agent}/stats": 1,
        f"/v1/agents/{agent}/tasks": 1,
        f"/v1/agents/{agent}/tasks?status=pending": 1,
        "/v1/tasks": 1,
        "/v1/tasks?page=1": 3,
        "/v1/tasks?sort=created_at": 1,
        f"/v1/tasks/{task}": 1,
        f"/v1/tasks/{task}/events": 1,
        f"/v1/users/{user}/tasks": 1,
        "/v1/rounds": 1,
        "/v1/rounds?state=open&page=1": 3,
        f"/v1/rounds/{round_id}": 1,
        f"/v1/rounds/{round_id}/votes": 1,
        "/v1/leaderboards/weekly": 1,
    }
    now = datetime.now(UTC)
    await add_task(database, task, agent_id=agent, user_id=user)
    await add_round(database, round_id, opened_at=now)
    async with recorded(database_url) as (client, statements):
        for rows in (1, 20):
            for n in range(rows):
                other = await add_agent(database, **({"id": agent} if rows == 1 else {}))
                await add_task(database, id_after(n), agent_id=other, user_id=user)
                await add_round(database, id_after(n), opened_at=now)
                await add_vote(database, round_id)
                await add_event(database, task)
                await insert(database, "agent_scores", {"agent_id": other, "day": now.date(), "points": n})
            for path, expected in paths.items():
                statements.clear()
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
                assert len(statements) == expected, (path, statements)
