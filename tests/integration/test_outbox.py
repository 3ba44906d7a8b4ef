"""The sweeper on real servers: it publishes what was left behind, whatever else is in the way."""

from __future__ import annotations

from uuid import uuid4

import asyncpg

from streams import outbox
from streams.database import Database
from streams.outbox import Outbox
from streams.publisher import Outgoing, Publisher
from streams.telemetry import Metrics
from streams.topology import Topology
from tests.conftest import Servers
from tests.support import settings_for, take_all


def message(exchange: str) -> Outgoing:
    return Outgoing(exchange, "some.type", str(uuid4()), "some.type", b'{"a": 1}', headers={"x": "y"})


async def test_a_row_that_cannot_be_published_does_not_hold_up_the_others(
    servers: Servers, database: asyncpg.Pool
) -> None:
    good, unroutable = message("dead-letters"), message("cache-bus")
    rows = [(uuid4(), unroutable), (uuid4(), good), (uuid4(), unroutable)]
    for age, (batch_id, outgoing) in enumerate(rows):
        await database.execute(
            "INSERT INTO outbox (batch_id, created_at, messages) "
            "VALUES ($1, now() - interval '1 h' * $2, $3)",
            batch_id,
            10 - age,
            outbox.encode([outgoing]),
        )
    publisher = Publisher(servers.amqp, "test")
    await publisher.connect()
    await Topology.of([]).declare(publisher.channel)
    own = Database(settings_for(servers), "test")
    await own.connect()
    sweeper = Outbox(own, publisher, Metrics(), grace=60)

    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0, "what failed waits for its turn again"
    assert await sweeper.pending() == 2
    await own.close()
    await publisher.close()
    (arrived,) = await take_all(servers.amqp, "quarantine")
    assert (arrived.message_id, arrived.body, arrived.headers["x"]) == (good.message_id, good.body, "y")


async def test_two_sweepers_share_the_work(servers: Servers, database: asyncpg.Pool) -> None:
    """A row that one holds is skipped by the other."""
    batch_id = uuid4()
    await database.execute(
        "INSERT INTO outbox (batch_id, created_at, messages) VALUES ($1, now() - interval '1 h', $2)",
        batch_id,
        outbox.encode([message("dead-letters")]),
    )
    publisher = Publisher(servers.amqp, "test")
    await publisher.connect()
    await Topology.of([]).declare(publisher.channel)
    own = Database(settings_for(servers), "test")
    await own.connect()
    async with database.acquire() as other, other.transaction():
        await other.fetch("SELECT FROM outbox FOR UPDATE")
        assert await Outbox(own, publisher, Metrics(), grace=1).sweep() == 0
    assert await Outbox(own, publisher, Metrics(), grace=1).sweep() == 1
    await own.close()
    await publisher.close()
