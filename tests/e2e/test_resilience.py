"""Outages, lost connections, stops: what is held, what is given back, what is not acknowledged by mistake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from aio_pika.abc import AbstractIncomingMessage

from schemas.contract import Store
from streams import watchdog
from streams.app import Service
from streams.edge import BatchSubscriber
from streams.settings import Settings
from streams.watchdog import ConsumerLost, HandlerStuck
from tests.conftest import Servers
from tests.e2e import troubled
from tests.fault.proxy import Proxy
from tests.support import depth, event, eventually, publish, running, settings_for

HANDLERS = "tests.e2e.troubled,handlers.invalidations"
QUEUE = "troubled.record_notes"


def note(trouble: str | None = None) -> dict[str, Any]:
    return event("note.taken", {"note_id": str(uuid4()), "trouble": trouble})


def quick(servers: Servers, **overrides: Any) -> Settings:
    """Settings with which a watchdog looks five times a second."""
    return settings_for(servers, handlers=HANDLERS, **{"watchdog_seconds": 0.2, **overrides})


@asynccontextmanager
async def through_a_proxy(servers: Servers) -> AsyncIterator[tuple[Proxy, Servers]]:
    """The broker by way of a proxy."""
    async with Proxy(servers.amqp) as proxy:
        yield proxy, replace(servers, amqp=proxy.url)


async def stored(database: asyncpg.Pool, count: int) -> bool:
    return bool(await database.fetchval("SELECT count(*) = $1 FROM event_history", count))


async def waiting(servers: Servers, count: int) -> bool:
    return await depth(servers.amqp, QUEUE) == count


async def test_what_is_held_too_long_is_given_back_and_taken_up_again(
    servers: Servers, database: asyncpg.Pool
) -> None:
    troubled.broken = True
    async with running(quick(servers, hold_seconds=0.5), Store.POSTGRES) as (worker,):
        metrics = worker.telemetry.metrics
        await publish(servers.amqp, "notes", [note() for _ in range(50)])
        await eventually(lambda: waiting(servers, 50), "all are back in the queue")
        assert worker.unacknowledged == 0
        assert f"consumer of {QUEUE}" in worker.health.troubles
        assert metrics.queue(QUEUE).returned._value.get() == 50
        assert metrics.consumers_expected.labels(QUEUE)._value.get() == 0
        troubled.broken = False
        await eventually(lambda: stored(database, 50), "all are stored")
        await eventually(lambda: waiting(servers, 0), "and acknowledged")
        await eventually(lambda: worker.health.ready, "ready again")
        assert worker.intakes[QUEUE].received == 100, "each came twice"
        assert metrics.consumers_expected.labels(QUEUE)._value.get() == 1
    assert await depth(servers.amqp, "quarantine") == 0


async def test_a_handler_that_does_not_come_back_ends_the_process(servers: Servers) -> None:
    troubled.gate = asyncio.Event()
    service = Service(quick(servers, hold_seconds=0.5), Store.POSTGRES)
    ended = asyncio.create_task(service.run(asyncio.Event()))
    await eventually(lambda: service.health.ready)
    await publish(servers.amqp, "notes", [note()])
    with pytest.raises(HandlerStuck, match=f"a batch of {QUEUE} has not ended for 0.5 s"):
        await asyncio.wait_for(ended, 20)
    assert await depth(servers.amqp, QUEUE) == 1, "the broker has it back"


async def test_large_messages_fill_no_more_than_the_budget(
    servers: Servers, database: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "UNREAD", 0.5)
    size, limit = 100_000, 2 * 1024 * 1024
    settings = quick(servers, max_held_bytes=limit)
    async with running(settings, Store.POSTGRES) as (worker,):
        budget, (consumer,) = worker._budget, worker._consumers
        most = 0
        take = budget.take

        def counted(count: int) -> None:
            nonlocal most
            take(count)
            most = max(most, budget.held)

        monkeypatch.setattr(budget, "take", counted)
        troubled.broken = True
        await publish(servers.amqp, "notes", [note("x" * size) for _ in range(100)])
        await eventually(lambda: waiting(servers, 100), "what finds no room is given back in time")
        await eventually(lambda: budget.holding_since is None, "the connection is read again")
        assert consumer.is_given_back
        troubled.broken = False
        await eventually(lambda: stored(database, 100), "all are stored")
        await eventually(lambda: waiting(servers, 0), "and acknowledged")
        assert limit <= most <= limit + 5 * size, "no more than the chunk that was being received"
        assert consumer._prefetch <= 2 * limit // size, "prefetch has followed"
        await eventually(lambda: budget.held == 0, "nothing is forgotten")
        await publish(servers.amqp, "notes", [note() for _ in range(500)])
        await eventually(lambda: stored(database, 600), "small ones flow")
        await eventually(lambda: consumer._prefetch == settings.prefetch, "and prefetch is back")


@pytest.mark.parametrize("tap", [True, False])
async def test_another_prefetch_with_messages_under_way_loses_no_connection(
    servers: Servers, database: asyncpg.Pool, tap: bool
) -> None:
    """RabbitMQ before 3.10.9 and 3.11.1 lost its thread when a consumer came back by the same name."""
    troubled.gate = asyncio.Event()
    async with running(quick(servers, tap=tap), Store.POSTGRES) as (worker,):
        subscriber = worker._subscribers[QUEUE]
        for turn in range(1, 4):
            await publish(servers.amqp, "notes", [note() for _ in range(40)])
            await eventually(lambda: worker.intakes[QUEUE].received == 40 * turn, "all are held")  # noqa: B023
            await subscriber.set_prefetch(1000 + turn)
        await publish(servers.amqp, "notes", [note() for _ in range(40)])
        await eventually(lambda: worker.unacknowledged == 160, "what comes over the new one is held, too")
        troubled.gate.set()
        await eventually(lambda: stored(database, 160), "all are stored")
        await eventually(lambda: waiting(servers, 0), "and acknowledged")
        assert worker.intakes[QUEUE].received == 160, "none came twice"


async def test_a_consumer_that_the_broker_forgot_is_brought_back(
    servers: Servers, database: asyncpg.Pool
) -> None:
    async with running(quick(servers), Store.POSTGRES) as (worker,):
        reported = worker.telemetry.metrics.consumers_reported.labels(QUEUE)
        await eventually(lambda: reported._value.get() == 1, "the broker reports one")
        await forget(worker)
        assert worker._subscribers[QUEUE].is_consuming, "it looks well"
        await publish(servers.amqp, "notes", [note()])
        await eventually(lambda: stored(database, 1), "it consumes again")
        await eventually(lambda: worker.health.ready)


async def test_a_consumer_that_starves_beside_others_is_brought_back(
    servers: Servers, database: asyncpg.Pool
) -> None:
    async with running(quick(servers), Store.POSTGRES) as (worker,):
        connection = await aio_pika.connect(servers.amqp)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(1)
            queue = await channel.get_queue(QUEUE, ensure=False)
            await queue.consume(keep)
            await forget(worker)
            await publish(servers.amqp, "notes", [note() for _ in range(20)])
            await eventually(lambda: stored(database, 19), "all but the one that the other holds")
        await eventually(lambda: stored(database, 20), "and that one, once the other is gone")


async def test_a_consumer_that_cannot_be_brought_back_ends_the_process(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def vainly(self: BatchSubscriber, prefetch: int) -> None: ...

    service = Service(quick(servers), Store.POSTGRES)
    ended = asyncio.create_task(service.run(asyncio.Event()))
    await eventually(lambda: service.health.ready)
    monkeypatch.setattr(BatchSubscriber, "take_up", vainly)
    await forget(service)
    with pytest.raises(ConsumerLost, match="3 new subscriptions were in vain"):
        await asyncio.wait_for(ended, 20)


async def keep(message: AbstractIncomingMessage) -> None:
    """Take a message and never settle it."""


async def forget(worker: Service) -> None:
    """Have the broker drop the consumer, beneath the library that believes in it."""
    subscriber = worker._subscribers[QUEUE]
    assert subscriber._queue_obj is not None
    channel = await subscriber._queue_obj.channel.get_underlay_channel()
    await channel.basic_cancel(str(subscriber._consumer_tag))


async def test_late_acknowledgements_hit_nothing_after_a_reconnect(
    servers: Servers, database: asyncpg.Pool
) -> None:
    async with (
        through_a_proxy(servers) as (proxy, proxied),
        running(quick(proxied, watchdog_seconds=60), Store.POSTGRES) as (worker,),
    ):
        old, new = asyncio.Event(), asyncio.Event()
        troubled.gate = old
        sent = 0
        while len(troubled.attempts) < 2:  # both lanes hold a batch, however large it is
            await publish(servers.amqp, "notes", [note() for _ in range(100)])
            sent += 100
        held = worker.intakes[QUEUE].running
        proxy.reset()
        await publish(servers.amqp, "notes", [note() for _ in range(50)])
        sent += 50
        await eventually(lambda: worker.unacknowledged == sent, "all came over a new channel")
        troubled.gate = new
        old.set()
        await eventually(lambda: stored(database, held), "the batches in flight are stored")
        await eventually(lambda: len(troubled.attempts) >= 3, "the next ones have begun")
        proxy.refuse()
        proxy.reset()
        await eventually(lambda: waiting(servers, sent), "nothing was acknowledged")
        new.set()
        await proxy.accept()
        await eventually(lambda: stored(database, sent), "each is stored once")
        await eventually(lambda: waiting(servers, 0), "and acknowledged")
        await eventually(lambda: worker.unacknowledged == 0)
    assert await depth(servers.amqp, "quarantine") == 0


@pytest.mark.parametrize("link", ["refused", "silent"])
async def test_a_stop_does_not_wait_for_a_broker_that_is_away(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    async with through_a_proxy(servers) as (proxy, proxied):
        service, stop = Service(quick(proxied), Store.POSTGRES), asyncio.Event()
        start = service._start

        async def start_and_cut() -> None:
            await start()
            if link == "refused":
                proxy.refuse()
            else:
                proxy.hold()
            stop.set()

        monkeypatch.setattr(service, "_start", start_and_cut)
        tasks = asyncio.all_tasks()
        begun = time.monotonic()
        await asyncio.wait_for(service.run(stop), 20)
        assert time.monotonic() - begun < 10
        assert connecting(tasks) == [], "nobody goes on connecting"


async def test_links_that_are_half_open_do_not_hold_up_a_stop(servers: Servers) -> None:
    tasks = asyncio.all_tasks()
    async with (
        through_a_proxy(servers) as (amqp, proxied),
        Proxy(servers.database) as postgres,
    ):
        service, stop = (
            Service(quick(replace(proxied, database=postgres.url)), Store.POSTGRES),
            asyncio.Event(),
        )
        ended = asyncio.create_task(service.run(stop))
        await eventually(lambda: service.health.ready)
        amqp.half_open()
        postgres.hold()
        begun = time.monotonic()
        stop.set()
        await asyncio.wait_for(ended, 25)
        assert time.monotonic() - begun < 15
        assert connecting(tasks) == [], "nobody goes on connecting"


def connecting(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks of the library that would reconnect for ever."""
    return [task for task in asyncio.all_tasks() - before if "connection_factory" in str(task.get_coro())]


async def test_what_the_deadline_gives_back_is_counted(servers: Servers, database: asyncpg.Pool) -> None:
    troubled.gate = asyncio.Event()
    async with running(quick(servers, shutdown_seconds=0.1), Store.POSTGRES) as (worker,):
        await publish(servers.amqp, "notes", [note() for _ in range(30)])
        await eventually(lambda: worker.intakes[QUEUE].running == 30, "all are being stored")
    assert worker.telemetry.metrics.queue(QUEUE).returned._value.get() == 30
    assert await depth(servers.amqp, QUEUE) == 30
    assert await stored(database, 0)
