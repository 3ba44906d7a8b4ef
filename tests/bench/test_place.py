"""A measurement begins when a message is taken and ends when none waits: both are read from counts of now."""

from __future__ import annotations

from pathlib import Path

from streams.bench.drain import fill
from streams.bench.options import Options
from streams.bench.place import place_on
from streams.settings import Settings
from streams.stack import StackUrls
from tests.conftest import Servers


async def test_the_messages_that_wait_are_counted_as_they_are(servers: Servers, tmp_path: Path) -> None:
    urls = StackUrls(servers.amqp, servers.database, servers.redis, servers.management)
    async with place_on(urls, Settings.load(), {}, tmp_path) as place:
        await place.empty()
        assert await place.waiting(*place.queues) == 0
        backlog = await fill(place, Options(300))
        assert await place.waiting(*place.queues) == backlog.messages
        await place.empty()
        assert await place.waiting(*place.queues) == 0
