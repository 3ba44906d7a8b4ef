"""The clusters' short form, on servers that start fast; `make cluster` has more, RabbitMQ's nodes too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.hosts import Hosts, NoPrimaryError
from streams.stack import LocalStack, StackUrls
from tests.cluster import postgres
from tests.cluster.scenarios import SCENARIOS
from tests.fault.harness import table
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import Nursery, nursery
from tests.fault.harness.place import Place
from tests.fault.harness.trial import Stage

SCALE = 0.1


@pytest.fixture(scope="module")
async def forks() -> AsyncIterator[Nursery]:
    async with nursery() as here:
        yield here


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["postgres-promotion"])
async def test_scenario(name: str, stack: StackUrls, forks: Nursery) -> None:
    rows: list[Row] = []
    # The session's servers are what is no cluster; nobody stops them here.
    place = Place(LocalStack("not-started"), stack)
    await SCENARIOS[name](Stage(place, forks, SCALE, rows.append))
    assert rows
    for row in rows:
        assert row.ok, table.line(row)
        assert row.cache_compared, "readers asked for something"


async def test_the_primary_is_found_wherever_it_is() -> None:
    with postgres.pair(synchronous=True) as pair:
        hosts = Hosts(pair.url)

        async def port() -> int:
            connection = await hosts(timeout=1)
            try:
                return int(await connection.fetchval("SELECT inet_server_port()"))
            finally:
                await connection.close()

        first = await port()
        pair.group.freeze("one")
        # It takes connections and says nothing: the next host is asked all the same, and is a standby.
        with pytest.raises(NoPrimaryError):
            await port()
        await asyncio.to_thread(pair.group.kill, "one")
        await asyncio.to_thread(pair.promote)
        assert await port() not in (0, first)
