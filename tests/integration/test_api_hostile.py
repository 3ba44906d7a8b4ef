"""What nobody should send: answered with 400 or 404, never with 500, and reaching no SQL and no key."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
import pytest

from handlers import views
from handlers.paging import encode_cursor
from schemas.ids import uuid7
from streams.cache import Cache, connect_redis
from tests.api_support import add_agent, add_task, reading

INJECTIONS = (
    "id;DROP TABLE tasks",
    "id, (SELECT token_hash FROM sessions)",
    "*",
    "",
    ",",
    "id,",
    "ID",
    " id",
    "status_stamp",
    "id\0",
    "ïd",
    "__class__",
    "1",
    "id--",
    "$1",
    "{}",
    "id" + ",id" * 400,
)

CURSORS = (
    "",
    "!",
    "a",
    "====",
    "x" * 5000,
    "' OR 1=1 --",
    "W10",  # []
    "bnVsbA",  # null
    "\0",
    "é",
    "AAAA\n",
    *(
        base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        for text in (
            "[1]",
            '["a","b"]',
            '[1,"x"]',
            f'[-1,"{uuid4()}"]',
            f'[1e3,"{uuid4()}"]',
            f'[true,"{uuid4()}"]',
            f'[253402300800000000,"{uuid4()}"]',
            f'[99999999999999999999999,"{uuid4()}"]',
            f'[1,"{uuid4()}",2]',
            f'[1, "{uuid4()}"]',
            f'[1,"{{{uuid4()}}}"]',
            f'[1,"{str(uuid4()).upper()}"]',
            '{"a":1}',
            "[" * 2000,
        )
    ),
)

IDS = (
    "1",
    "null",
    "%00",
    "..%2f..",
    "0190f5c4-0000-7000-8000-00000000000g",
    "0190f5c400007000800000000000000",
    "'%20OR%201=1",
    "x" * 3000,
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "00000000-0000-0000-0000-000000000000",
    str(uuid4()),
)

LIMITS = ("0", "-1", "101", "1.5", "", "ten", "9" * 40, "0x10", "null")

LISTS = (
    "/v1/tasks",
    "/v1/agents",
    "/v1/agents/{agent}/tasks",
    "/v1/users/{agent}/tasks",
    "/v1/tasks/{task}/events",
)


@pytest.fixture
async def client(database: asyncpg.Pool, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with reading(database, redis_url) as (client, _):
        yield client


@pytest.fixture
async def lists(database: asyncpg.Pool) -> list[str]:
    """Paths of lists that have a row each."""
    agent, task = await add_agent(database), uuid7()
    await add_task(database, task, agent_id=agent, user_id=agent)
    return [path.format(agent=agent, task=task) for path in LISTS]


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (answer.url, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


async def test_fields(client: httpx.AsyncClient, database: asyncpg.Pool, lists: list[str]) -> None:
    task = (await client.get("/v1/tasks")).json()["data"][0]["id"]
    for text in INJECTIONS:
        for path in (*lists[:4], f"/v1/tasks/{task}"):
            answer = await client.get(path, params={"fields": text})
            if text == INJECTIONS[-1]:
                assert answer.status_code in (200, 400)  # one name many times, or too long
            else:
                refused(answer, 400)
    assert await database.fetchval("SELECT count(*) FROM tasks") == 1


async def test_cursors(client: httpx.AsyncClient, lists: list[str]) -> None:
    for path in lists:
        for text in CURSORS:
            refused(await client.get(path, params={"cursor": text}), 400)


async def test_a_cursor_of_another_list(client: httpx.AsyncClient, lists: list[str]) -> None:
    agents_cursor = encode_cursor((uuid4(),))
    refused(await client.get("/v1/tasks", params={"cursor": agents_cursor}), 400)
    refused(await client.get(lists[4], params={"cursor": agents_cursor}), 400)


async def test_limits(client: httpx.AsyncClient, lists: list[str]) -> None:
    for path in lists:
        for text in LIMITS:
            refused(await client.get(path, params={"limit": text}), 400)


async def test_ids(client: httpx.AsyncClient) -> None:
    for path in (
        "/v1/tasks/{}",
        "/v1/tasks/{}/events",
        "/v1/rounds/{}",
        "/v1/rounds/{}/votes",
        "/v1/agents/{}",
    ):
        for text in IDS:
            refused(await client.get(path.format(text)), 404)
    for text in set(IDS[:4]) - {"null"}:  # which stands for no filter
        refused(await client.get("/v1/tasks", params={"agent_id": text}), 400)


async def test_filters(client: httpx.AsyncClient, database: asyncpg.Pool, lists: list[str]) -> None:
    for params in (
        {"status": "pending' OR '1'='1"},
        {"status": ""},
        {"kind": "\0"},
        {"kind": ""},
        {"kind": "x" * 201},
        {"created_from": "yesterday"},
        {"created_from": "2026-11-23T00:00:00"},
        {"created_before": "infinity"},
        {"created_before": "0001-01-01T00:00:00"},
        {"user_id": "%"},
    ):
        refused(await client.get("/v1/tasks", params=params), 400)
    for params in ({"kind": "x'; DROP TABLE tasks; --"}, {"kind": "$1"}, {"kind": "%"}, {"kind": "{}"}):
        answer = await client.get("/v1/tasks", params=params)
        assert (answer.status_code, answer.json()["data"]) == (200, [])
    for edge in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00Z"):
        for name in ("created_from", "created_before"):
            answer = await client.get("/v1/tasks", params={name: edge})
            assert answer.status_code in (200, 400), (name, edge, answer.text)
    assert await database.fetchval("SELECT count(*) FROM tasks") == 1


async def test_periods(client: httpx.AsyncClient) -> None:
    for text in ("hourly", "DAILY", "daily:2026-01-01", "*", "%00", "x" * 1000, "daily%0a"):
        refused(await client.get(f"/v1/leaderboards/{text}"), 400, 404)


async def test_headers(client: httpx.AsyncClient, lists: list[str]) -> None:
    for value in ("", ",", '"', "W/", "*,", "x" * 5000, '"' + "y" * 100 + '"'):
        answer = await client.get(lists[1], headers={"If-None-Match": value})
        assert answer.status_code == (304 if "*" in value else 200), value
    for value in ("gzip;q=0.5, *", "bogus", "", "GZIP"):
        assert (await client.get(lists[1], headers={"Accept-Encoding": value})).status_code == 200


async def test_nothing_but_well_formed_keys_reaches_redis(
    client: httpx.AsyncClient, lists: list[str], redis_url: str
) -> None:
    for path in lists:
        for text in (*INJECTIONS, *CURSORS):
            await client.get(path, params={"kind": text, "fields": text, "cursor": text})
        await client.get(path)
    await client.get("/v1/tasks", params={"agent_id": str(UUID(int=5)), "kind": "a b\r\nFLUSHALL\r\n"})
    redis = connect_redis(redis_url, "test")
    keys = [key.decode() for key in await redis.keys("*")]
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789:-"
    assert keys
    assert [key for key in keys if set(key) - set(allowed)] == []
    await redis.aclose()


async def test_a_poisoned_entry_is_the_worst_that_redis_can_do(
    database: asyncpg.Pool, redis_url: str
) -> None:
    """A key that holds rubbish is read past; no error reaches the client."""
    async with reading(database, redis_url) as (client, cache):
        assert isinstance(cache, Cache)
        task = await add_task(database)
        redis = connect_redis(redis_url, "test")
        await redis.set(f"t:{task}", b"\xff" * 50)
        answer = await client.get(f"/v1/tasks/{task}")
        assert set(orjson.loads(answer.content)) == set(views.TASK)
        await redis.aclose()
