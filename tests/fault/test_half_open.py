"""A connection to RabbitMQ that only the server knows to be closed."""

from __future__ import annotations

import pytest

from streams.publisher import Outgoing, Publisher, PublishFailed
from streams.topology import DEAD_LETTERS, Topology
from tests.conftest import Servers
from tests.fault.proxy import Proxy


async def test_whoever_waits_for_a_confirm_is_told_that_the_connection_was_given_up(servers: Servers) -> None:
    """aiormq cancels the waiting future; taken for our own cancellation, that ended the outbox for good."""
    message = Outgoing(DEAD_LETTERS, "test", "1", "test", b"{}")
    async with Proxy(servers.amqp) as proxy:
        publisher = Publisher(f"{proxy.url}?heartbeat=1", "test", timeout=60)
        await publisher.connect()
        await Topology.of([]).declare(publisher.channel)
        await publisher.publish(message)
        proxy.half_open()
        with pytest.raises(PublishFailed):
            await publisher.publish(message)
        await publisher.close()
