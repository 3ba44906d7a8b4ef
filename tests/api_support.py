"""The read API on real servers, for tests: an application, a client, and rows to read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson

from handlers.access import Limiter, Quota, Verdict
from handlers.api import Limits, create_app
from handlers.leaderboards import Leaderboards
from handlers.shell import Shell
from schemas.fields import dated
from schemas.ids import uuid7
from streams.cache import Cache, Cached, Source, connect_redis
from streams.locks import Locks
from streams.telemetry import Metrics


class NoCache:
    """Reads everything from the database."""

    async def get(
        self, key: str, load: Callable[[], Awaitable[bytes | None]], *, ttl: object, tags: Sequence[str] = ()
    ) -> Cached:
        return Cached(await load(), Source.BYPASS)

    async def ping(self) -> bool:
        return False

    @property
    def hears(self) -> None:
        return None


class NoLimiter:
    """Lets everybody pass."""

    async def take(self, key: str, quota: Quota) -> Verdict:
        return Verdict(True, quota.burst, 0, 0)


@asynccontextmanager
async def reading(
    database: asyncpg.Pool, redis_url: str, *, api_open: bool = True, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Cache]]:
    """A client of an application in this process, and its cache."""
    redis = connect_redis(redis_url, "test-api")
    cache, leaderboards = Cache(redis), Leaderboards(database, redis, Locks(redis))
    async with client_of(database, cache, api_open=api_open, leaderboards=leaderboards, **options) as client:
        yield client, cache
    await leaderboards.close()
    await cache.close()


@asynccontextmanager
async def client_of(
    database: asyncpg.Pool, cache: Cache | NoCache, *, api_open: bool = True, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = app_of(database, cache, api_open=api_open, **options)
    # An error that reaches the client as 500 is an answer; that it is one is what tests look at.
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def app_of(
    database: Any,
    cache: Cache | NoCache,
    *,
    api_open: bool = True,
    limiter: Limiter | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Shell:
    return create_app(
        pool=database,
        cache=cache,
        metrics=Metrics(),
        limiter=limiter or NoLimiter(),
        is_open=api_open,
        limits=limits or Limits(),
        **options,
    )


@asynccontextmanager
async def recording(database_url: str, said: list[Any], *, size: int = 2) -> AsyncIterator[asyncpg.Pool]:
    """A pool whose statements are recorded, as asyncpg.LoggedQuery, but for those of the pool itself."""

    def record(query: Any) -> None:
        if not query.query.startswith("SELECT pg_advisory_unlock_all()"):
            said.append(query)

    async def watch(connection: Any) -> None:
        connection.add_query_logger(record)

    async with asyncpg.create_pool(database_url, min_size=1, max_size=size, setup=watch) as pool:
        yield pool


def id_after(seconds: float) -> UUID:
    """A UUIDv7 of an instant from now."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (uuid7().int & ((1 << 80) - 1)))


async def add_task(database: asyncpg.Pool, task_id: UUID | None = None, **columns: Any) -> UUID:
    task_id = task_id or uuid7()
    values = {
        "id": task_id,
        "created_at": dated(task_id),
        "updated_at": dated(task_id),
        "kind": "test",
    } | columns
    await insert(database, "tasks", values)
    return task_id


async def add_agent(database: asyncpg.Pool, **columns: Any) -> UUID:
    now = datetime.now(UTC)
    values = {
        "id": uuid4(),
        "status": "active",
        "name": "scout",
        "created_at": now,
        "updated_at": now,
    } | columns
    await insert(database, "agents", values)
    return UUID(str(values["id"]))


async def add_session(
    database: asyncpg.Pool, token: str, *, seconds: float = 3600, roles: Sequence[str] = ()
) -> UUID:
    """A session; returns its user."""
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    user_id = uuid4()
    values = {
        "id": uuid4(),
        "user_id": user_id,
        "roles": list(roles),
        "token_hash": sha256(token.encode()).digest(),
        "expires_at": ends,
    }
    await insert(database, "sessions", values)
    return user_id


async def add_event(database: asyncpg.Pool, entity_id: UUID, **columns: Any) -> None:
    values = {
        "entity_id": entity_id,
        "time": datetime.now(UTC),
        "type": "task.created",
        "source": "tests",
        "event_id": str(uuid4()),
        "batch_id": uuid4(),
        "data": {},
    } | columns
    await insert(database, "event_history", values)


async def add_vote(database: asyncpg.Pool, round_id: UUID, **columns: Any) -> None:
    values = {
        "round_id": round_id,
        "created_at": dated(round_id),
        "agent_id": uuid4(),
        "choice": "yes",
        "weight": Decimal(1),
        "cast_at": datetime.now(UTC),
        "stamp": b"",
    } | columns
    await insert(database, "votes", values)


async def add_round(database: asyncpg.Pool, round_id: UUID | None = None, **columns: Any) -> UUID:
    round_id = round_id or uuid7()
    await insert(database, "rounds", {"id": round_id, "created_at": dated(round_id)} | columns)
    return round_id


async def insert(database: asyncpg.Pool, table: str, values: dict[str, Any]) -> None:
    texts = [orjson.dumps(value).decode() if isinstance(value, dict) else value for value in values.values()]
    marks = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await database.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *texts)
