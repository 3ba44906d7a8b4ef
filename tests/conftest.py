"""Real servers for all tests: one private stack per run, a fresh database and virtual host per test.

With AMQP_URL, DATABASE_URL and REDIS_URL set, those servers are used instead; the AMQP user must then be
allowed to use the management API at STREAMS_TEST_MANAGEMENT_URL, since each test makes a virtual host.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import redis.asyncio

from streams.migrations import migrate
from streams.settings import Settings
from streams.stack import LocalStack, StackUrls
from tests.receivers import over_grpc, over_http

__all__ = ["over_grpc", "over_http"]

pytest_plugins = ["streams.testkit.fixtures"]

_numbers = count(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell leaves it to what it starts in the background; and processes that tests start inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Servers:
    """URLs of a test's own corner of the servers."""

    amqp: str
    database: str
    redis: str
    management: str

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_URL": self.amqp, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


@pytest.fixture(scope="session")
def stack() -> Iterator[StackUrls]:
    """The servers themselves."""
    names = ("AMQP_URL", "DATABASE_URL", "REDIS_URL", "STREAMS_TEST_MANAGEMENT_URL")
    if all(os.environ.get(name) for name in names):
        yield StackUrls(*(os.environ[name] for name in names))
        return
    with LocalStack("test", unique=True) as urls:
        yield urls


@pytest.fixture(scope="session")
def streams_server(stack: StackUrls) -> str:
    """For the kit's fixtures: our server instead of one more."""
    return stack.database


@pytest.fixture(scope="session")
async def template(stack: StackUrls) -> AsyncIterator[str]:
    """A migrated database that nobody uses; others are copies of it."""
    name = f"streams_template_{os.getpid()}"
    await _admin(stack.database, f'CREATE DATABASE "{name}"')
    await migrate(_with_path(stack.database, name), Settings.load().migration_sources)
    yield name
    await _admin(stack.database, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database_url(stack: StackUrls, template: str) -> AsyncIterator[str]:
    """A fresh, migrated database."""
    name = f"streams_{os.getpid()}_{next(_numbers)}"
    await _admin(stack.database, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _with_path(stack.database, name)
    await _admin(stack.database, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the fresh database."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def amqp_url(stack: StackUrls) -> AsyncIterator[str]:
    """A fresh virtual host."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    user = urlsplit(stack.amqp).username or ""
    async with httpx.AsyncClient(base_url=stack.management, timeout=30) as management:
        (await management.put(f"/api/vhosts/{name}")).raise_for_status()
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        (await management.put(f"/api/permissions/{name}/{quote(user)}", json=rights)).raise_for_status()
        yield _with_path(stack.amqp, name)
        (await management.delete(f"/api/vhosts/{name}")).raise_for_status()


@pytest.fixture
async def redis_url(stack: StackUrls) -> str:
    """An empty Redis."""
    client = redis.asyncio.from_url(stack.redis)
    await client.flushdb()
    await client.aclose()
    return stack.redis


@pytest.fixture
def servers(stack: StackUrls, amqp_url: str, database_url: str, redis_url: str) -> Servers:
    return Servers(amqp_url, database_url, redis_url, stack.management)


async def _admin(url: str, statement: str) -> None:
    connection = await asyncpg.connect(_with_path(url, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
