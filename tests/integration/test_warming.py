"""Warming: it fills what readers would have filled, never staler, in one process, within its bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from handlers.board_store import BoardStore
from handlers.boards import boards_at
from handlers.warming import SESSIONS, Bounds, Warmer
from schemas.cache import agent_key, session_token_key
from streams.cache import Cache, RedisClient, connect_redis
from streams.cli.commands import app
from streams.locks import Locks
from tests.api_support import add_agent, add_session, client_of, insert

TOKEN = "a session's token"
KEY = session_token_key(sha256(TOKEN.encode()).digest())


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    client = connect_redis(redis_url, "test-warming", timeout=20)
    yield client
    await client.aclose()


async def test_after_warming_readers_hit_and_see_what_they_would_have_loaded(
    database: asyncpg.Pool,
    client: RedisClient,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    database_url: str,
) -> None:
    agents = [await add_agent(database, name=f"agent {n}") for n in range(230)]
    idle = await add_agent(database, status="inactive")
    await add_session(database, TOKEN)
    await add_session(database, "over", seconds=-1)
    today = datetime.now(UTC).date()
    await insert(database, "agent_scores", {"agent_id": agents[0], "day": today, "points": 7})
    cache = Cache(client)
    report = await Warmer(database, cache, client, Locks(client)).run()
    assert (report.ended, report.sessions, report.agents) == ("done", 1, 230)
    assert sum(report.leaderboards.values()) == len(report.leaderboards) >= 4
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client_of(database, cache, api_open=False) as api:
        paths = [f"/v1/agents/{agent}" for agent in agents[:3]]
        warmed = [await api.get(path, headers=headers) for path in paths]
        assert [r.headers["x-cache"] for r in warmed] == ["hit"] * 3
        await client.unlink(*(agent_key(agent) for agent in agents[:3]))
        loaded = [await api.get(path, headers=headers) for path in paths]
        assert [r.content for r in warmed] == [r.content for r in loaded]
        assert (await api.get(f"/v1/agents/{idle}", headers=headers)).headers["x-cache"] == "miss"
    raw = await client.get(KEY)
    again = await Warmer(database, cache, client, Locks(client)).run()
    assert (again.sessions, again.agents, again.leaderboards) == (0, 0, {})
    assert await client.get(KEY) == raw, "what stands is left alone"

    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    shown = await command("show", KEY, "--json")
    assert (shown["kind"], shown["epoch_valid"], shown["stamps_valid"]) == ("entry", True, True)
    assert 0 <= shown["age_seconds"] <= 60
    assert "value" not in shown
    assert "user_id" in (await command("show", KEY, "--value", "--json"))["value"]
    assert (await command("show", "daily", "--json"))["agents"] == 1
    assert (await command("show", "t:none", "--json", status=1))["kind"] == "nothing"
    async with Locks(client).hold("warming") as lock:
        assert (await command("show", "lock:warming", "--json"))["fence"] == lock.fence
        assert (await command("warm", "--json", status=1))["ended"] == "taken"
    await client.flushdb()
    assert (await command("rebuild", "daily", "--json"))["built"] == {
        board.name: 1 for board in boards_at(datetime.now(UTC)) if board.period == "daily"
    }
    assert (await command("warm", "--json"))["agents"] == 230


async def command(*arguments: str, status: int = 0) -> Any:
    """What a command reports, run in a thread with a loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["cache", *arguments])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


async def test_a_warm_value_is_never_staler_than_an_applied_invalidation(
    database: asyncpg.Pool, client: RedisClient
) -> None:
    """The session is revoked while it is being loaded: what was read before is not stored."""
    await add_session(database, TOKEN)
    cache = Cache(client)

    class Slow:
        async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
            rows = await database.fetch(query, *args)
            if query == SESSIONS:
                await database.execute("DELETE FROM sessions")
                await cache.invalidate({KEY}, set())
            return list(rows)

        def acquire(self, **options: Any) -> Any:
            return database.acquire(**options)

    report = await Warmer(Slow(), cache, client, Locks(client)).run()
    assert report.sessions == 1, "it was loaded"
    assert await client.get(KEY) is None, "and not stored"


async def test_it_is_bounded_and_fails_without_leaving_leases(
    database: asyncpg.Pool, client: RedisClient
) -> None:
    for _ in range(120):
        await add_agent(database)
    cache = Cache(client)
    few = await Warmer(database, cache, client, Locks(client), Bounds(rows=10)).run()
    assert few.agents == 10
    small = await Warmer(database, cache, client, Locks(client), Bounds(bytes=1)).run()
    assert (small.agents, small.ended) == (22, "bytes"), "the chunk in which the bound was reached"

    class Silent:
        def __init__(self, error: BaseException | None) -> None:
            self._error = error

        async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
            if "ANY" in query:
                if self._error is not None:
                    raise self._error
                await asyncio.Event().wait()
            return list(await database.fetch(query, *args))

        def acquire(self, **options: Any) -> Any:
            return database.acquire(**options)

    await client.flushdb()
    late = await Warmer(Silent(None), cache, client, Locks(client), Bounds(seconds=1)).run()
    assert late.ended == "time"
    with pytest.raises(OSError, match="gone"):
        await Warmer(Silent(OSError("gone")), cache, client, Locks(client)).run()
    left = [key async for key in client.scan_iter("*") if not key.startswith((b"lb:", b"{lock:"))]
    assert left == []
    board = boards_at(datetime.now(UTC))[0]
    assert await BoardStore(client).top(board, 1) is not None
