"""What nobody should send: answered with 400 or 404, never with 500, and reaching no SQL and no key."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest

from handlers import views
from handlers.paging import encode_cursor, scope_of
from schemas.ids import uuid7
from streams.cache import Cache, connect_redis
from streams.ratelimit import RateLimiter
from tests.api_support import add_agent, add_task, reading, recording

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

SORTS = (
    "name",
    "id; DROP TABLE tasks",
    "created_at DESC",
    "-id",
    "payload",
    "--created_at",
    "created_at,id",
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
    agents_cursor = encode_cursor((uuid4(),), scope_of("agents", None, None, "id"))
    refused(await client.get("/v1/tasks", params={"cursor": agents_cursor}), 400)
    refused(await client.get(lists[4], params={"cursor": agents_cursor}), 400)


async def test_limits(client: httpx.AsyncClient, lists: list[str]) -> None:
    for path in lists:
        for text in LIMITS:
            refused(await client.get(path, params={"limit": text}), 400)


async def test_sort_keys(client: httpx.AsyncClient, lists: list[str]) -> None:
    for path in lists[:4]:
        for text in SORTS:
            refused(await client.get(path, params={"sort": text}), 400)


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
        {"created_before": "2585923"},
        {"created_from": "2026-11-23"},
        {"created_from": "2026-11-23T08"},
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


KNOWN = {"null", "status_stamp"}  # words of our own statements
HOSTILE = sorted({text for text in (*INJECTIONS, *CURSORS, *IDS) if len(text) > 3} - KNOWN)
PARAMETERS = (
    "fields",
    "cursor",
    "sort",
    "include",
    "status",
    "state",
    "kind",
    "agent_id",
    "page",
    "limit",
    "x",
)


async def test_nothing_hostile_reaches_a_statement_or_a_key(
    database_url: str, redis_url: str, lists: list[str]
) -> None:
    """What the servers were told while everything hostile was put everywhere: statements that are ours to
    the letter, with the rest as arguments; keys that are ours to the letter."""
    queries: list[Any] = []

    listener = connect_redis(redis_url, "listener")
    commands: list[str] = []
    async with (
        recording(database_url, queries) as pool,
        reading(pool, redis_url) as (client, _),
        listener.monitor() as monitor,
    ):
        for path in (*lists, "/v1/rounds"):  # what is well-formed makes the statements that there may be
            await client.get(path)
        asked = 0
        for path in (*lists, "/v1/rounds", lists[4].removesuffix("/events"), "/v1/leaderboards/daily"):
            for text in HOSTILE:
                for name in PARAMETERS:
                    try:
                        answer = await client.get(path, params={name: text})
                    except httpx.InvalidURL:
                        continue
                    asked += 1
                    assert answer.status_code in (200, 304, 400, 404), (path, name, text, answer.text)
        for text in HOSTILE:
            for path in ("/v1/leaderboards/", "/v1/tasks/", "/v1/rounds/", "/v1/agents/"):
                answer = await client.get(path + quote(text, safe=""))
                assert answer.status_code in (400, 404), (path, text)
            headers = {"If-None-Match": text.encode(), "Authorization": b"Bearer " + text.encode()}
            if not set(text) & set("\0\n"):
                assert (await client.get(lists[0], headers=headers)).status_code == 200
        end = "the end"
        await client_says(redis_url, end)
        async with asyncio.timeout(20):
            while end not in (said := str((await monitor.next_command())["command"])):
                commands.append(said)
    assert asked > 2000
    texts = {query.query for query in queries}
    assert len(texts) < 60, "a handful of statements, however much was asked"
    assert not [text for text in texts for bad in HOSTILE if bad in text and bad != "id, "]
    grammar = re.compile(r"\b(?:q|t|s|ag|ut|lb|u|rl|stats:ag):\S*")
    keys = [key for said in commands for key in grammar.findall(said)]
    assert keys
    assert not [key for key in keys if not re.fullmatch(r"[a-z0-9:_-]+", key)]
    assert not [said for said in commands for bad in HOSTILE if f" {bad}" in said]


async def client_says(redis_url: str, text: str) -> None:
    redis = connect_redis(redis_url, "test")
    await redis.echo(text)
    await redis.aclose()


async def test_tokens_become_nothing_but_digests(database: asyncpg.Pool, redis_url: str) -> None:
    redis = connect_redis(redis_url, "test")
    async with reading(database, redis_url, api_open=False, limiter=RateLimiter(redis)) as (client, _):
        for text in (*INJECTIONS, *CURSORS, "s:*", "rl:x", "../..", "*", "x" * 2000):
            if set(text) & set("\0\n"):
                continue
            answer = await client.get("/v1/agents", headers={"Authorization": b"Bearer " + text.encode()})
            refused(answer, 401, 429)
    for key in await redis.keys("*"):
        assert re.fullmatch(rb"rl:at-[0-9a-f]{16}:auth", key), key
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
