"""What holds for every request: problems, HEAD, times, trace ids, servers that are away."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import httpx
import pytest

from handlers.api import Limits
from handlers.gate import Busy, Gate
from handlers.problems import KINDS
from schemas.ids import uuid7
from streams.cache import Cache, connect_redis
from tests.api_support import NoCache, add_agent, add_task, client_of, reading
from tests.fault.proxy import Proxy
from tests.support import eventually

DOCS = Path(__file__).parent.parent.parent / "docs" / "api.md"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_problems_say_what_and_where(database: asyncpg.Pool, redis_url: str) -> None:
    async with reading(database, redis_url) as (client, _):
        for method, path, status, name in (
            ("GET", "/v1/nothing", 404, "not-found"),
            ("GET", "/", 404, "not-found"),
            ("GET", f"/v1/tasks/{uuid7()}", 404, "not-found"),
            ("POST", "/v1/tasks", 405, "method-not-allowed"),
            ("DELETE", f"/v1/tasks/{uuid7()}", 405, "method-not-allowed"),
            ("GET", "/v1/tasks?limit=0", 400, "invalid-request"),
            ("GET", "/v1/tasks?agentid=x", 400, "invalid-request"),
            ("GET", "/v1/rounds?round_state=open", 400, "invalid-request"),
            ("GET", "/v1/leaderboards/daily?limit=5", 400, "invalid-request"),
            ("GET", "/v1/tasks?cursor=x&page=1", 400, "invalid-request"),
            ("GET", "/v1/agents?sort=name", 400, "invalid-request"),
            ("GET", "/problems/nothing", 404, "not-found"),
        ):
            answer = await client.request(method, path, headers={"traceparent": f"00-{TRACE}-{'b' * 16}-01"})
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            body = answer.json()
            assert (body["type"], body["status"]) == (f"/problems/{name}", status)
            assert (body["instance"], body["trace_id"]) == (path.partition("?")[0], TRACE)
            assert (await client.get(body["type"])).json()["title"] == body["title"]
            if status == 405:
                assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        for path, name in (("/v1/tasks?limit=0", "limit"), ("/v1/rounds?state=x", "state")):
            [error] = (await client.get(path)).json()["errors"]
            assert error["parameter"] == name
        for bad in ("", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", "rubbish", f"00-{TRACE}-x-01"):
            body = (await client.get("/v1/nothing", headers={"traceparent": bad})).json()
            assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
            assert body["trace_id"] not in (TRACE, "0" * 32)


def test_the_page_about_the_api_lists_every_kind_of_problem() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", DOCS.read_text(), re.MULTILINE)
    assert listed == [(kind.name, str(kind.status)) for kind in KINDS]


async def test_head_is_get_without_a_body(database: asyncpg.Pool, redis_url: str) -> None:
    task = await add_task(database, payload={"x": "y" * 3000})
    async with reading(database, redis_url) as (client, _):
        for path in (f"/v1/tasks/{task}", "/v1/tasks", "/v1/nothing", "/readyz", "/health", "/metrics"):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            if path != "/metrics":
                assert head.headers["content-length"] == got.headers["content-length"]
            assert head.headers.get("etag") == got.headers.get("etag")
            assert head.headers["x-content-type-options"] == "nosniff"
        etag = (await client.head(f"/v1/tasks/{task}")).headers["etag"]
        assert (await client.head(f"/v1/tasks/{task}", headers={"If-None-Match": etag})).status_code == 304
        text = (await client.get("/metrics")).text
        assert 'method="HEAD",route="/v1/tasks/{task_id}",status_code="304"} 1.0' in text
        assert 'route="unmatched",status_code="404"' in text


@pytest.mark.parametrize(("seconds", "statement"), [(0.2, "10s"), (10.0, "200ms")])
async def test_a_request_that_takes_too_long_is_given_up(
    database: asyncpg.Pool, database_url: str, redis_url: str, seconds: float, statement: str
) -> None:
    settings = {"statement_timeout": statement}
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=2, server_settings=settings) as pool,
        reading(pool, redis_url, limits=Limits(seconds=seconds)) as (client, _),
    ):
        async with database.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE tasks")
            answer = await client.get("/v1/tasks")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "/problems/timeout"
        assert (await client.get("/v1/tasks")).status_code == 200


async def test_heavy_reads_wait_in_a_bounded_queue_and_light_ones_do_not(
    database: asyncpg.Pool, redis_url: str
) -> None:
    agent = await add_agent(database)
    async with reading(database, redis_url, limits=Limits(heavy=2)) as (client, _):
        async with database.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE tasks")
            heavy = [asyncio.create_task(client.get("/v1/tasks")) for _ in range(40)]
            refused = await next(asyncio.as_completed(heavy))
            assert refused.status_code == 503
            assert refused.json()["type"] == "/problems/busy"
            assert refused.headers["retry-after"] == "1"
            light = await client.get(f"/v1/agents/{agent}")
            assert light.status_code == 200, "connections are left for it"
            await eventually(lambda: sum(task.done() for task in heavy) == 38, "the queue is given up")
        statuses = [(await task).status_code for task in heavy]
        assert statuses.count(200) == 2


async def test_a_gate_lets_in_as_many_as_told() -> None:
    gate, inside, most = Gate(3, waiting=100, seconds=5), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with gate:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(50)))
    assert (most, inside) == (3, 0)
    full = Gate(1, waiting=0)
    async with full:
        with pytest.raises(Busy):
            await full.__aenter__()
    async with full:
        pass


async def test_reads_go_on_while_a_server_is_away(database_url: str, redis_url: str) -> None:
    async with Proxy(database_url) as to_database, Proxy(redis_url) as to_redis:
        pool = await asyncpg.create_pool(to_database.url, min_size=1, max_size=4)
        cache = Cache(connect_redis(to_redis.url, "test", timeout=1.0))
        async with client_of(pool, cache) as client:
            task = await add_task(pool)
            path = f"/v1/tasks/{task}"
            assert (await client.get(path)).headers["x-cache"] == "miss"

            to_database.refuse()
            to_database.reset()
            cached = await client.get(path)
            assert (cached.status_code, cached.headers["x-cache"]) == (200, "hit")
            assert cached.headers["cache-status"].startswith("agent-streams; hit")
            other = await client.get(f"/v1/tasks/{uuid7()}")
            assert (other.status_code, other.headers["retry-after"]) == (503, "1")
            assert other.json()["type"] == "/problems/unavailable"

            async def stale() -> bool:
                old = await client.get(path)
                assert (old.status_code, old.content) == (200, cached.content)
                return old.headers["x-cache"] == "stale" and "stale" in old.headers["cache-status"]

            await eventually(stale, "it shows that the database is away")
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["postgresql"]) == (503, "down")
            await to_database.accept()
            await eventually(lambda: answers(client, "/readyz"), "PostgreSQL is back")

            to_redis.refuse()
            to_redis.reset()
            for _ in range(3):
                uncached = await client.get(path)
                assert (uncached.status_code, uncached.content) == (200, cached.content)
                assert uncached.headers["cache-status"] == "agent-streams; fwd=bypass"
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            await to_redis.accept()

            async def hits() -> bool:
                return (await client.get(path)).headers["x-cache"] == "hit"

            await eventually(hits, "Redis is back")
        await cache.close()
        await pool.close()


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    return (await client.get(path)).status_code == 200


async def test_an_unforeseen_error_is_a_problem_that_tells_nothing(database: asyncpg.Pool) -> None:
    class Broken(NoCache):
        async def get(self, *_: object, **__: object) -> object:  # type: ignore[override]
            raise KeyError("a secret")

    async with client_of(database, Broken()) as client:
        answer = await client.get(f"/v1/tasks/{uuid7()}")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "secret" not in answer.text
