"""What tests of the cache need: a database of one row, readers that go step by step, links that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio

from streams.cache import Cache, Cached, LocalLimits, connect_redis
from streams.cache.found import Group
from streams.health import free_port
from tests.support import eventually

KEY, TAG = "q:key", "agent:1"


@asynccontextmanager
async def caches(redis_url: str) -> AsyncIterator[Callable[..., Awaitable[Cache]]]:
    """Makes caches with a memory that hears only what the test tells it; closes them at the end."""
    made: list[Cache] = []

    async def make(*groups: Group, url: str = redis_url, **options: Any) -> Cache:
        cache = Cache(connect_redis(url, "test"), local=LocalLimits(), **options)
        cache.load_together(groups)
        await cache.confirm(inf)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        await cache.close()


class Database:
    """A database of one row, whose reads stop where the test wants them to."""

    def __init__(self) -> None:
        self.value = 0
        self.loads = 0

    async def load(self) -> bytes:
        self.loads += 1
        return str(self.value).encode()


class SteppedReader:
    """A `get` that advances one step at a time: lease, load, fill."""

    def __init__(self, cache: Cache, database: Database, tags: tuple[str, ...]) -> None:
        self._cache, self._database, self._tags = cache, database, tags
        self._leased, self._read = asyncio.Event(), asyncio.Event()
        self._may_read, self._may_fill = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[Cached] | None = None

    async def lease(self) -> None:
        self._task = asyncio.create_task(self._cache.get(KEY, self._load, ttl=60, tags=self._tags))
        await self._leased.wait()

    async def load(self) -> None:
        self._may_read.set()
        await self._read.wait()

    async def fill(self) -> None:
        assert self._task is not None
        self._may_fill.set()
        await self._task

    async def _load(self) -> bytes:
        self._leased.set()
        await self._may_read.wait()
        value = await self._database.load()
        self._read.set()
        await self._may_fill.wait()
        return value


Step = tuple[str, Callable[[], Awaitable[None]]]


def interleavings(*programs: tuple[Step, ...]) -> Iterator[list[Step]]:
    """Every order that keeps the order of each program's own steps."""
    if not any(programs):
        yield []
    for at, program in enumerate(programs):
        if program:
            rest = (*programs[:at], program[1:], *programs[at + 1 :])
            for tail in interleavings(*rest):
                yield [program[0], *tail]


async def no_step() -> None: ...


def orders(reader: Sequence[str]) -> Iterator[list[str]]:
    """Orders of a reader and two writers, each of which commits, invalidates in Redis, and is heard of.

    The writers are alike: only those where the first commits first.
    """
    writers = [tuple((f"{what} {n}", no_step) for what in ("commit", "invalidate", "hear")) for n in "12"]
    for shape in interleavings(tuple((name, no_step) for name in reader), *writers):
        names = [name for name, _ in shape]
        if names.index("commit 1") < names.index("commit 2"):
            yield names


class Proxy:
    """A TCP proxy to Redis that can be cut, or made to swallow what it is sent."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._to: tuple[str | None, int | None] = self._target.hostname, self._target.port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.swallow = False

    @property
    def url(self) -> str:
        return urlunsplit(self._target._replace(netloc=f"{self._login}127.0.0.1:{self._port}"))

    @property
    def _login(self) -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        return login + at

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def lead_to(self, url: str) -> None:
        """Connect newcomers to another server; who is connected stays where he is."""
        parts = urlsplit(url)
        self._to = parts.hostname, parts.port

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._writers |= {writer, back}
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if not self.swallow:
                    sink.write(data)
                    await sink.drain()
        sink.close()


class Now:
    """A clock that stands still."""

    def __init__(self, seconds: float = 1e9) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class RedisServer:
    """A redis-server of a test's own, without a password."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port("127.0.0.1")
        self.bus_port = free_port("127.0.0.1")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self.client = redis.asyncio.Redis.from_url(self.url)

    async def start(self) -> None:
        ports = ["--port", str(self.port), "--cluster-port", str(self.bus_port)]
        command = ["redis-server", *ports, "--dir", str(self._folder), "--save", ""]
        self._process = await asyncio.create_subprocess_exec(
            *command, *self._options, stdout=asyncio.subprocess.DEVNULL
        )
        await eventually(self._answers, f"Redis answers on port {self.port}")

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answers(self) -> bool:
        try:
            return bool(await self.client.ping())
        except redis.asyncio.ConnectionError:
            return False


@asynccontextmanager
async def redis_servers(folder: Path, count: int, *options: str) -> AsyncIterator[Sequence[RedisServer]]:
    servers = [RedisServer(folder, *options) for _ in range(count)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield servers
    finally:
        for server in servers:
            await server.client.aclose()
            await server.kill()
