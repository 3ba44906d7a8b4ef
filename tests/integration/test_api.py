"""The read API against real PostgreSQL and Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from handlers import views
from handlers.gate import Gate
from handlers.periods import end_of, start_of
from handlers.queries import Queries
from handlers.selecting import Rows
from schemas.cache import Period, agent_key, agent_tag, task_key, user_tasks_key
from schemas.fields import dated
from schemas.ids import uuid7
from streams.cache import Cache
from tests.api_support import NoCache, add_agent, add_task, client_of, id_after, insert, reading

Reading = tuple[httpx.AsyncClient, Cache]


@pytest.fixture
async def api(database: asyncpg.Pool, redis_url: str) -> AsyncIterator[Reading]:
    async with reading(database, redis_url) as both:
        yield both


async def test_a_task_is_whole_cached_and_fresh_after_an_invalidation(
    api: Reading, database: asyncpg.Pool
) -> None:
    client, cache = api
    task_id = await add_task(database, payload={"a": [1, {"b": None}]}, priority=3, progress=0.5)
    first = await client.get(f"/v1/tasks/{task_id}")
    assert first.status_code == 200
    assert first.headers["x-cache"] == "miss"
    assert first.headers["content-type"] == "application/json"
    body = first.json()
    assert set(body) == set(views.TASK)
    assert (body["id"], body["payload"], body["priority"]) == (str(task_id), {"a": [1, {"b": None}]}, 3)
    assert datetime.fromisoformat(body["created_at"]) == dated(task_id)
    again = await client.get(f"/v1/tasks/{task_id}")
    assert (again.headers["x-cache"], again.content) == ("hit", first.content)
    await database.execute("UPDATE tasks SET status = 'completed' WHERE id = $1", task_id)
    await cache.invalidate({task_key(task_id)}, set())
    fresh = await client.get(f"/v1/tasks/{task_id}")
    assert (fresh.headers["x-cache"], fresh.json()["status"]) == ("miss", "completed")


async def test_an_agent(api: Reading, database: asyncpg.Pool) -> None:
    client, cache = api
    agent_id = await add_agent(database, capabilities=["plan", "code"])
    body = (await client.get(f"/v1/agents/{agent_id}")).json()
    assert set(body) == set(views.AGENT)
    assert (body["capabilities"], body["status"]) == (["plan", "code"], "active")
    await database.execute("UPDATE agents SET status = 'paused' WHERE id = $1", agent_id)
    await cache.invalidate({agent_key(agent_id)}, set())
    assert (await client.get(f"/v1/agents/{agent_id}")).json()["status"] == "paused"


async def test_agents_are_paged_and_filtered(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    ids = sorted(
        [await add_agent(database, status=s) for s in ("active", "paused", "active", "inactive", "active")]
    )
    seen = [row["id"] for page in await pages(client, "/v1/agents", limit=2) for row in page]
    assert seen == [str(i) for i in ids]
    active = (await client.get("/v1/agents", params={"status": "active"})).json()["data"]
    assert len(active) == 3
    assert (await client.get("/v1/agents", params={"is_active": "false"})).json()["data"] == []


async def test_pages_of_tasks_are_stable_while_tasks_arrive(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    moment = id_after(0)
    same_instant = [UUID(int=moment.int ^ n) for n in range(4)]
    ids = [await add_task(database, i) for i in (*same_instant, *(id_after(n) for n in range(1, 6)))]
    expected = sorted(ids, key=lambda i: (dated(i), i), reverse=True)
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        body = (await client.get("/v1/tasks", params=params)).json()
        seen += [row["id"] for row in body["data"]]
        await add_task(database, id_after(100))  # newer than all: belongs to no later page
        cursor = body["pagination"]["cursor"]
        assert body["pagination"]["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert seen == [str(i) for i in expected]


async def test_tasks_by_all_filters(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    agent, user = uuid4(), uuid4()
    wanted = await add_task(
        database, id_after(10), agent_id=agent, user_id=user, status="failed", kind="review"
    )
    for other in ({"agent_id": uuid4()}, {"user_id": uuid4()}, {"status": "pending"}, {"kind": "plan"}):
        base = {"agent_id": agent, "user_id": user, "status": "failed", "kind": "review"}
        await add_task(database, id_after(10), **base | other)
    for seconds in (0, 20):
        await add_task(
            database, id_after(seconds), agent_id=agent, user_id=user, status="failed", kind="review"
        )
    created = dated(wanted)
    params = {
        "agent_id": str(agent),
        "user_id": str(user),
        "status": "failed",
        "kind": "review",
        "created_from": created.isoformat(),
        "created_before": (created + timedelta(milliseconds=1)).isoformat(),
    }
    found = await client.get("/v1/tasks", params=params)
    assert [row["id"] for row in found.json()["data"]] == [str(wanted)]
    assert set(found.json()["data"][0]) == set(views.TASK_SUMMARY)


async def test_lists_are_cached_where_a_tag_covers_them(api: Reading, database: asyncpg.Pool) -> None:
    client, cache = api
    agent, user = uuid4(), uuid4()
    await add_task(database, agent_id=agent, user_id=user)
    paths = [
        f"/v1/agents/{agent}/tasks",
        f"/v1/tasks?agent_id={agent}",
        f"/v1/tasks?agent_id={agent}&limit=5",
    ]
    for path in paths:
        assert (await client.get(path)).headers["x-cache"] == ("hit" if path == paths[1] else "miss")
        assert (await client.get(path)).headers["x-cache"] == "hit"
    await cache.invalidate(set(), {agent_tag(agent)})
    assert (await client.get(paths[0])).headers["x-cache"] == "miss"
    assert (await client.get(f"/v1/users/{user}/tasks")).headers["x-cache"] == "miss"
    assert (await client.get(f"/v1/users/{user}/tasks")).headers["x-cache"] == "hit"
    await cache.invalidate({user_tasks_key(user)}, set())  # the first page has a key of its own
    assert (await client.get(f"/v1/users/{user}/tasks")).headers["x-cache"] == "miss"
    for path in ("/v1/tasks", "/v1/tasks?status=pending", "/v1/tasks?kind=test"):
        for _ in range(2):
            assert (await client.get(path)).headers["x-cache"] == "bypass"


async def test_fields_pick_columns(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    agent = await add_agent(database)
    task = await add_task(database, agent_id=agent, payload={"x": 1})
    one = await client.get(f"/v1/tasks/{task}", params={"fields": "payload,id"})
    assert one.json() == {"id": str(task), "payload": {"x": 1}}
    for path in ("/v1/tasks", f"/v1/agents/{agent}/tasks"):
        body = (await client.get(path, params={"fields": "kind", "limit": 1})).json()
        assert body["data"] == [{"kind": "test"}]
    assert (await client.get(f"/v1/agents/{agent}", params={"fields": "name"})).json() == {"name": "scout"}
    assert (await client.get("/v1/agents", params={"fields": "name"})).json()["data"] == [{"name": "scout"}]
    assert (await client.get("/v1/tasks", params={"fields": "payload"})).status_code == 400


async def test_the_history_of_a_task(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    task, now = await add_task(database), datetime.now(UTC)
    base = {"entity_id": task, "source": "tests", "batch_id": uuid4()}
    for n in range(5):  # two of them at the same instant
        when = {"time": now + timedelta(seconds=min(n, 3)), "type": "task.progressed", "event_id": f"e{n}"}
        await insert(database, "event_history", base | when | {"data": {"n": n}})
    other = {"time": now, "type": "vote.cast", "event_id": "other", "data": {}}
    await insert(database, "event_history", base | other)
    read = await pages(client, f"/v1/tasks/{task}/events", limit=2)
    assert [len(page) for page in read] == [2, 2, 1]
    events = [event for page in read for event in page]
    assert [(event["id"], event["data"]["n"]) for event in events] == [(f"e{n}", n) for n in range(5)]
    assert set(events[0]) == set(views.names(views.HistoryEvent))
    assert (await client.get(f"/v1/tasks/{uuid7()}/events")).status_code == 404


async def test_large_events_make_short_pages(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    task, now = await add_task(database), datetime.now(UTC)
    for n in range(6):
        row = {"entity_id": task, "source": "tests", "batch_id": uuid4(), "type": "task.completed"}
        large = {"data": {"n": n, "x": os.urandom(200_000).hex()}}
        await insert(database, "event_history", row | large | {"time": now, "event_id": f"e{n}"})
    read = await pages(client, f"/v1/tasks/{task}/events", limit=100)
    assert [len(page) for page in read] == [2, 2, 2]
    assert [event["data"]["n"] for page in read for event in page] == list(range(6))


async def test_a_round_with_tallies_and_votes(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    round_id, now = uuid7(), datetime.now(UTC)
    key = {"created_at": dated(round_id)}
    opened = {"options": ["yes", "no"], "quorum": Decimal("2.5"), "opened_at": now}
    decided = {"decided_choice": "yes", "decided_tally": {"yes": "2.000000"}, "decided_votes": 2}
    await insert(database, "rounds", {"id": round_id} | key | opened | decided)
    for choice, weight, votes in (("no", "0.100001", 1), ("yes", "123456789012.000001", 2), ("gone", "0", 0)):
        tally = {"round_id": round_id, "choice": choice, "weight": Decimal(weight), "votes": votes}
        await insert(database, "round_tallies", tally | key)
    agents = sorted(uuid4() for _ in range(4))
    for n, agent in enumerate(agents):
        vote = {
            "round_id": round_id,
            "agent_id": agent,
            "choice": "yes",
            "weight": Decimal(1),
            "cast_at": now,
        }
        await insert(database, "votes", vote | key | {"stamp": b"", "retracted": n == 3})
    answer = await client.get(f"/v1/rounds/{round_id}")
    body = answer.json()
    assert set(body) == set(views.names(views.Round))
    assert b'"quorum":2.5' in answer.content
    assert b'{"choice":"yes","weight":123456789012.000001,"votes":2}' in answer.content, "exact, no float"
    assert [tally["choice"] for tally in body["tallies"]] == ["yes", "no"]
    votes = [vote for page in await pages(client, f"/v1/rounds/{round_id}/votes", limit=2) for vote in page]
    assert [vote["agent_id"] for vote in votes] == [str(agent) for agent in agents[:3]]
    assert set(votes[0]) == set(views.names(views.Vote))
    assert (await client.get(f"/v1/rounds/{uuid7()}")).status_code == 404
    assert (await client.get(f"/v1/rounds/{uuid7()}/votes")).status_code == 404


async def test_leaderboards(api: Reading, database: asyncpg.Pool) -> None:
    client, _ = api
    today = datetime.now(UTC).date()
    named, unnamed = await add_agent(database), uuid4()
    for agent, day, points in (
        (named, today, 10),
        (unnamed, today, 10),
        (named, today - timedelta(days=400), 50),
    ):
        await insert(
            database, "agent_scores", {"agent_id": agent, "day": day, "points": points, "completed": 1}
        )
    daily = (await client.get("/v1/leaderboards/daily")).json()
    assert (daily["start"], daily["end"]) == (str(today), str(today + timedelta(days=1)))
    assert [(row["rank"], row["points"]) for row in daily["data"]] == [(1, 10), (1, 10)]
    assert {row["agent_id"]: row["name"] for row in daily["data"]} == {
        str(named): "scout",
        str(unnamed): None,
    }
    ever = (await client.get("/v1/leaderboards/all_time")).json()
    assert [(row["rank"], row["points"]) for row in ever["data"]] == [(1, 60), (2, 10)]
    for period in Period:
        assert (await client.get(f"/v1/leaderboards/{period}")).headers["x-cache"] in ("hit", "miss")


@pytest.mark.parametrize(
    ("period", "day", "start", "end"),
    [
        (Period.DAILY, date(2024, 2, 28), date(2024, 2, 28), date(2024, 2, 29)),
        (Period.WEEKLY, date(2026, 11, 22), date(2026, 11, 16), date(2026, 11, 23)),
        (Period.MONTHLY, date(2026, 12, 31), date(2026, 12, 1), date(2027, 1, 1)),
        (Period.MONTHLY, date(2024, 2, 29), date(2024, 2, 1), date(2024, 3, 1)),
    ],
)
def test_periods(period: Period, day: date, start: date, end: date) -> None:
    assert start_of(period, day) == start
    assert end_of(period, start) == end


async def test_conditional_requests_and_compression(api: Reading, database: asyncpg.Pool) -> None:
    client, cache = api
    task = await add_task(database, payload={"text": "x" * 5000})
    path = f"/v1/tasks/{task}"
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    packed = await client.get(path)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    etag = plain.headers["etag"]
    assert packed.headers["etag"] == etag
    for value in (etag, f'"other", {etag}', "*", etag.removeprefix("W/")):
        answer = await client.get(path, headers={"If-None-Match": value})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    await database.execute("UPDATE tasks SET progress = 1 WHERE id = $1", task)
    await cache.invalidate({task_key(task)}, set())
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 200
    small = await client.get(path, params={"fields": "id"})
    assert "content-encoding" not in small.headers


async def test_health_metrics_and_documents(api: Reading) -> None:
    client, _ = api
    assert (await client.get("/livez")).json() == {"status": "live"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    await client.get(f"/v1/tasks/{uuid7()}")
    metrics = await client.get("/metrics")
    assert 'route="/v1/tasks/{task_id}",status_code="404"} 1.0' in metrics.text
    schema = (await client.get("/schema")).json()
    assert schema["paths"]["/v1/tasks/{task_id}"]["get"]["responses"]["200"]["content"]
    assert (await client.get("/v1/nothing")).json()["status"] == 404
    assert (await client.post("/v1/tasks")).status_code == 405


async def test_without_redis_it_is_ready_and_says_so(database: asyncpg.Pool) -> None:
    task = await add_task(database)
    async with client_of(database, NoCache()) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        answer = await client.get(f"/v1/tasks/{task}")
        assert (answer.status_code, answer.headers["x-cache"]) == (200, "bypass")


async def test_without_postgresql_it_is_not_ready_and_cached_reads_go_on(
    database_url: str, database: asyncpg.Pool, redis_url: str
) -> None:
    task = await add_task(database)
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=2)
    async with reading(pool, redis_url) as (client, _):
        assert (await client.get(f"/v1/tasks/{task}")).status_code == 200
        await pool.close()
        assert (await client.get(f"/v1/tasks/{task}")).headers["x-cache"] == "hit"
        missing = await client.get(f"/v1/tasks/{uuid7()}")
        assert (missing.status_code, missing.headers["retry-after"]) == (503, "1")
        assert missing.headers["content-type"] == "application/problem+json"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")


async def test_one_task_is_looked_up_in_one_partition(database: asyncpg.Pool) -> None:
    from handlers.queries import TASK_BY_ID

    task = await add_task(database)
    plan = await database.fetch(
        f"EXPLAIN {TASK_BY_ID}".replace("$1", f"'{task}'").replace("$2", f"'{dated(task)}'")
    )
    text = "\n".join(row[0] for row in plan)
    assert text.count("Scan") == 1
    assert "Index Scan" in text
    assert await Queries(Rows(database, Gate(1))).task(task) is not None


async def pages(client: httpx.AsyncClient, path: str, *, limit: int) -> list[list[dict[str, object]]]:
    """All pages of a list."""
    found, cursor = [], None
    while True:
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        body = (await client.get(path, params=params)).raise_for_status().json()
        found.append(body["data"])
        cursor = body["pagination"]["cursor"]
        if cursor is None:
            return found
