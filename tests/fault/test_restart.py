"""Servers that go away under load: the worker waits, and goes on by itself; nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import pytest

from schemas.contract import Store
from streams.app import Service
from streams.migrations import migrate
from streams.settings import Settings
from streams.stack import LocalStack, StackUrls
from tests.support import depth, event, eventually, publish, running, take_all

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[LocalStack, StackUrls]]:
    """Servers that this module may stop: nobody else uses them."""
    stack = LocalStack("fault", unique=True)
    with stack as urls:
        yield stack, urls


def notes(count: int) -> list[dict[str, Any]]:
    return [event("note.taken", {"note_id": str(uuid4())}) for _ in range(count)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize(
    ("server", "tap"), [("rabbitmq", True), ("rabbitmq", False), ("postgres", True), ("redis", True)]
)
async def test_a_server_that_goes_away_costs_only_time(
    own: tuple[LocalStack, StackUrls],
    server: Literal["rabbitmq", "postgres", "redis"],
    how: Literal["stop", "kill"],
    tap: bool,
) -> None:
    stack, urls = own
    settings = Settings.load(
        amqp_url=urls.amqp,
        database_url=urls.database,
        redis_url=urls.redis,
        handlers=HANDLERS,
        batch_size=50,
        tap=tap,
    )
    await migrate(urls.database, settings.migration_sources)
    before = await stored(urls)
    events = notes(1500)
    async with running(settings, Store.POSTGRES, Store.REDIS) as services:
        publishing = publish(urls.amqp, "notes", events)
        if server == "rabbitmq":
            await publishing  # the test's own publisher does not reconnect
        else:
            publisher = asyncio.create_task(publishing)
            await eventually(lambda: _more(urls, before), "the stream flows")
        await asyncio.to_thread(stack.kill if how == "kill" else stack.stop_service, server)
        if server == "postgres":
            await eventually(lambda: not services[0].health.ready, "the worker says it is not ready")
        await asyncio.to_thread(stack.start_service, server)
        if server != "rabbitmq":
            await publisher
        await eventually(lambda: _is(stored(urls), before + len(events)), "everything is stored", 60)
        await eventually(lambda: _ready(services), "all are ready again", 30)
        await eventually(lambda: _is(depth(urls.amqp, QUEUE), 0), "the queue is empty", 30)
        await eventually(lambda: _is(pending(urls), 0), "the outbox is empty", 30)
    ids = {e["id"] for e in events}
    connection = await asyncpg.connect(urls.database)
    rows = await connection.fetch("SELECT event_id, count(*) AS n FROM event_history GROUP BY event_id")
    await connection.close()
    assert {row["event_id"] for row in rows} >= ids
    assert {row["n"] for row in rows} == {1}
    assert [letter.headers for letter in await take_all(urls.amqp, "quarantine")] == []


def _ready(services: list[Service]) -> bool:
    return all(service.health.ready for service in services)


async def stored(urls: StackUrls) -> int:
    return await _count(urls, "SELECT count(*) FROM event_history")


async def pending(urls: StackUrls) -> int:
    return await _count(urls, "SELECT count(*) FROM outbox")


async def _count(urls: StackUrls, query: str) -> int:
    try:
        connection = await asyncpg.connect(urls.database)
    except (OSError, asyncpg.PostgresError):
        return -1
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _more(urls: StackUrls, before: int) -> bool:
    return await stored(urls) > before


async def _is(value: Any, expected: int) -> bool:
    return bool(await value == expected)
