"""Private servers for a whole run, and a corner of them for each trial."""

from __future__ import annotations

import asyncio
import random
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import aio_pika
import asyncpg
import httpx
import redis.asyncio

from streams.migrations import migrate
from streams.registry import load_subscriptions
from streams.settings import Settings
from streams.stack import SERVICES, LocalStack, StackUrls
from streams.topology import Topology

_PAIRS = 8  # of Redis databases: one that a trial uses, and one where nothing is cached for it
_TEMPLATE = "fault_template"


@dataclass(frozen=True, slots=True)
class Corner:
    """A trial's own database, virtual host and Redis database. `cold`: a Redis database that is empty."""

    amqp: str
    database: str
    redis: str
    cold: str
    management: str
    vhost: str

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_URL": self.amqp, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


class Place:
    """The servers of a run. Trials may stop and kill them: whoever does is alone meanwhile.

    Args:
        ours: the stack was started for this place, which may start its servers again.
    """

    def __init__(self, stack: LocalStack, urls: StackUrls, *, ours: bool = False) -> None:
        self._ours = ours
        self.stack = stack
        self.urls = urls
        self.logs = Path(tempfile.mkdtemp(prefix="fault-logs-"))
        """What the service's processes say, a file for each trial."""
        self._numbers = count()
        self._ports: set[int] = set()

    async def prepare(self) -> None:
        """Migrate the database that trials get copies of."""
        await self._admin(f"CREATE DATABASE {_TEMPLATE}")
        await migrate(_with_path(self.urls.database, _TEMPLATE), Settings.load().migration_sources)

    @asynccontextmanager
    async def corner(self) -> AsyncIterator[Corner]:
        """A fresh corner with all queues declared; everything in it goes afterwards."""
        await self._restore()
        number = next(self._numbers)
        name, user = f"fault-{number}", urlsplit(self.urls.amqp).username or ""
        await self._admin(f'CREATE DATABASE "{name}" TEMPLATE {_TEMPLATE}')
        async with httpx.AsyncClient(base_url=self.urls.management, timeout=60, trust_env=False) as http:
            (await http.put(f"/api/vhosts/{name}")).raise_for_status()
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            (await http.put(f"/api/permissions/{name}/{quote(user)}", json=rights)).raise_for_status()
            corner = Corner(
                _with_path(self.urls.amqp, name),
                _with_path(self.urls.database, name),
                _with_path(self.urls.redis, str(2 * (number % _PAIRS))),
                _with_path(self.urls.redis, str(2 * (number % _PAIRS) + 1)),
                self.urls.management,
                name,
            )
            await self._empty(corner)
            try:
                yield corner
            finally:
                await self._restore()
                (await http.delete(f"/api/vhosts/{name}")).raise_for_status()
                await self._admin(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _restore(self) -> None:
        """Start what a trial that failed has left dead: the next one is not to fail for it."""
        for service in SERVICES if self._ours else ():
            await asyncio.to_thread(self.stack.start_service, service)

    def port(self) -> int:
        """A port below those of outgoing connections, never given out twice."""
        while True:
            port = random.randrange(14_000, 20_000)
            with socket.socket() as probe:
                if port not in self._ports and probe.connect_ex(("127.0.0.1", port)) != 0:
                    self._ports.add(port)
                    return port

    async def _empty(self, corner: Corner) -> None:
        async with redis.asyncio.from_url(corner.redis) as client:
            await client.flushdb()
        connection = await aio_pika.connect(corner.amqp, timeout=30)
        async with connection:
            subscriptions = load_subscriptions(Settings.load().handlers)
            await Topology.of(subscriptions).declare(await connection.channel())

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(_with_path(self.urls.database, "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def private_place() -> AsyncIterator[Place]:
    """Start servers that nobody else uses, prepared."""
    stack = LocalStack("fault", unique=True)
    with stack as urls:
        place = Place(stack, urls, ours=True)
        await place.prepare()
        yield place


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
