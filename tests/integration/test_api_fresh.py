"""Is every cached read covered? What the handlers say is stale must be all that changed.

A simulated story goes batch by batch through the real handlers. After each batch, what they returned is
applied to Redis, and every path must answer what the database answers; by that it is cached for the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
from pydantic import TypeAdapter

from handlers import agents, invalidations, tasks, votes
from handlers.board_store import BoardStore
from handlers.boards import boards_at
from schemas.agents import AgentEvent
from schemas.cache import Period
from schemas.contract import Batch, Changes, Stream
from schemas.envelope import Event
from schemas.invalidations import CacheInvalidated, InvalidatedData
from schemas.tasks import TaskEvent
from schemas.votes import RoundDecided, VoteEvent
from streams.cache import connect_redis
from streams.demo.simulator import SimEvent, simulate
from streams.telemetry import Metrics
from streams.updating import Updating
from tests.api_support import NoCache, client_of, reading

FAMILIES: dict[str, tuple[Stream, TypeAdapter[Any]]] = {
    "tasks": (tasks.stream, TypeAdapter(TaskEvent)),
    "votes": (votes.stream, TypeAdapter(VoteEvent)),
    "agents": (agents.stream, TypeAdapter(AgentEvent)),
}


async def test_every_cached_read_is_fresh_once_invalidations_are_applied(
    database: asyncpg.Pool, redis_url: str
) -> None:
    story = simulate(run="fresh", seed=1, start=datetime.now(UTC), rate=2000, events=100)
    paths = sample_paths(story)
    hits = misses = 0
    redis, metrics = connect_redis(redis_url, "test-updater"), Metrics()
    async with reading(database, redis_url) as (cached, cache), client_of(database, NoCache()) as direct:
        updating = Updating(cache, redis, database, metrics)
        for exchange, events in batches(story, size=25):
            changes = await apply(database, exchange, events)
            await tell(updating, changes)
            for path in paths:
                expected, found = await direct.get(path), await cached.get(path)
                assert found.status_code == expected.status_code, path
                assert found.content == expected.content or found.status_code == 404, path
                hits += found.headers.get("x-cache") == "hit"
                misses += found.headers.get("x-cache") == "miss"
        boards = [await BoardStore(redis).top(board, 100) for board in boards_at(datetime.now(UTC))]
    await redis.aclose()
    assert all(boards), "leaderboards came from their sorted sets"
    of_a_day = {"period": Period.DAILY, "result": "written"}
    assert metrics.registry.get_sample_value("streams_board_updates_total", of_a_day), (
        "the updater counted them"
    )
    assert hits > len(paths), "most of it is cached from the batch before"
    assert misses > len(paths), "and some of it changed"


def sample_paths(story: Sequence[SimEvent]) -> list[str]:
    """Every kind of cached read, for some of the story's entities."""
    found: dict[str, list[str]] = {"task_id": [], "round_id": [], "agent_id": [], "user_id": []}
    for event in story:
        for name, ids in found.items():
            value = event.data.get(name)
            if value and value not in ids and len(ids) < 3:
                ids.append(value)
    return [
        "/v1/agents",
        "/v1/agents?status=active&limit=2&fields=name,reputation_score",
        *(f"/v1/leaderboards/{period}" for period in ("daily", "weekly", "monthly", "all_time")),
        *(f"/v1/leaderboards/{p}/agents/{i}" for p in ("daily", "all_time") for i in found["agent_id"]),
        *(f"/v1/tasks/{i}" for i in found["task_id"]),
        "/v1/agents?page=1&limit=3&sort=-reputation_score",
        *(f"/v1/agents/{i}" for i in found["agent_id"]),
        *(f"/v1/agents/{i}/stats" for i in found["agent_id"]),
        *(f"/v1/agents/{i}/tasks?page=1&limit=3" for i in found["agent_id"]),
        *(f"/v1/agents/{i}/tasks" for i in found["agent_id"]),
        *(f"/v1/tasks?agent_id={i}&status=completed&limit=3" for i in found["agent_id"]),
        *(f"/v1/users/{i}/tasks" for i in found["user_id"]),
        *(f"/v1/users/{i}/tasks?status=completed" for i in found["user_id"]),
        *(f"/v1/rounds/{i}" for i in found["round_id"]),
        *(f"/v1/rounds/{i}/votes" for i in found["round_id"]),
    ]


def batches(story: Sequence[SimEvent], *, size: int) -> Iterator[tuple[str, list[Event]]]:
    """Events in the order of the story, a batch for each exchange in turn."""
    for start in range(0, len(story), size):
        part = story[start : start + size]
        for exchange, (_, adapter) in FAMILIES.items():
            events = [adapter.validate_json(as_json(e)) for e in part if e.exchange == exchange]
            if events:
                yield exchange, events


def as_json(event: SimEvent) -> str:
    names = ("id", "source", "type", "time", "data")
    return json.dumps({"specversion": "1.0"} | {name: getattr(event, name) for name in names})


async def apply(database: asyncpg.Pool, exchange: str, events: list[Event]) -> Changes:
    handler = FAMILIES[exchange][0].subscriptions[0].handler
    async with database.acquire() as connection, connection.transaction():
        return await handler(Batch(uuid4(), events), connection)


async def tell(cache: Updating, changes: Changes) -> None:
    """What the engine publishes after the commit, through the updater's handler."""
    stale = CacheInvalidated(
        id="1",
        source="tests",
        time=datetime.now(UTC),
        data=InvalidatedData(keys=tuple(changes.keys), tags=tuple(changes.tags)),
    )
    decided = [event for event in changes.events if isinstance(event, RoundDecided)]
    named = [stale] if changes.keys or changes.tags else []
    applied = await invalidations.apply_invalidations(Batch(uuid4(), [*named, *decided]), cache)
    assert applied.keys >= changes.keys
    assert applied.tags >= changes.tags
