"""The cache as its users see it: `get` for readers, `invalidate` for updaters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import chain, islice
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.cache.circuit import Circuit
from streams.cache.coalesce import Coalescer
from streams.cache.entry import Entry, Lease, decode
from streams.cache.leases import Leases, Stamps, tag_key
from streams.refusal import reason
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

Load = Callable[[], Awaitable[bytes | None]]
Ttl = int | Callable[[bytes], int]

_DOWN: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
_CHUNK: Final = 1000
_ATTEMPTS: Final = 3
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05


class Source(StrEnum):
    """Where a value came from."""

    REDIS = "redis"
    DATABASE = "database"
    """Loaded, and stored unless an invalidation overtook it."""
    BYPASS = "bypass"
    """Loaded without storing: Redis is unreachable, or another process has been loading for too long."""


@dataclass(frozen=True, slots=True)
class Cached:
    value: bytes | None
    source: Source


@dataclass(frozen=True, slots=True)
class _Flight:
    """A load under way in this process, under a lease, with the stamps read before it began."""

    task: asyncio.Task[bytes | None]
    stamps: Stamps


class _Obstacle(Enum):
    BUSY = auto()  # another process holds the lease
    DOWN = auto()


class Cache:
    """Redis in front of a database. An in-process level has its place in front of `_look`.

    Values are bytes (compact JSON). None, for what does not exist, is never stored: ids that somebody
    makes up must not fill Redis.

    Args:
        lease_seconds: how long a load may take and still be stored.
        wait_seconds: how long to wait for another process's load before loading without storing.
        max_bytes: larger values are not stored.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        metrics: Metrics | None = None,
        lease_seconds: float = 10.0,
        wait_seconds: float = 0.25,
        max_bytes: int = 1_000_000,
        circuit: Circuit | None = None,
    ) -> None:
        self._redis = redis
        self._leases = Leases(redis, lease_ms=int(lease_seconds * 1000))
        self._wait_seconds = wait_seconds
        self._max_bytes = max_bytes
        self._circuit = circuit or Circuit()
        self._metrics = metrics or Metrics()
        self._flights: dict[bytes, _Flight] = {}
        self._looks: Coalescer[Entry | _Flight | _Obstacle] = Coalescer()
        self._loads: Coalescer[bytes | None] = Coalescer()

    async def get(self, key: str, load: Load, *, ttl: Ttl, tags: Sequence[str] = ()) -> Cached:
        """The value under `key`, from Redis or from `load`.

        Never older than an invalidation of the key, or of one of the tags, that had been applied when
        this was called. Callers at the same time share one load; so do processes, mostly.

        Args:
            load: reads the value from the primary database, never from a replica or another cache.
            ttl: seconds to keep a value, or a function of the value.
            tags: the same ones whenever the key is read.

        Raises:
            Exception: what `load` raises; nothing because of Redis.
        """
        give_up = time.monotonic() + self._wait_seconds
        pause = _FIRST_PAUSE
        while True:
            found = await self._find(key, load, ttl, tags)
            if isinstance(found, Entry):
                return self._answer(found.value, Source.REDIS)
            if isinstance(found, _Flight):
                return self._answer(await asyncio.shield(found.task), Source.DATABASE)
            if found is _Obstacle.DOWN or time.monotonic() + pause > give_up:
                return self._answer(await self._loads.run(key, load), Source.BYPASS)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def invalidate(self, keys: AbstractSet[str], tags: AbstractSet[str]) -> None:
        """Make every value under these keys, and every value filled under these tags, unreadable,
        fills in flight included. Idempotent.

        Raises:
            redis.RedisError, OSError: some of them may still be readable; do it again.
        """
        names = chain(keys, map(tag_key, tags))
        while chunk := list(islice(names, _CHUNK)):
            await self._leases.forget(chunk)

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(await self._redis.ping())
        except (RedisError, *_DOWN):
            return False

    async def close(self) -> None:
        """Break off loads that nobody waits for any more, and close the connections."""
        flights = [flight.task for flight in self._flights.values()]
        for task in flights:
            task.cancel()
        if flights:
            await asyncio.wait(flights)
        await self._looks.close()
        await self._loads.close()
        await self._redis.aclose()

    async def _find(self, key: str, load: Load, ttl: Ttl, tags: Sequence[str]) -> Entry | _Flight | _Obstacle:
        if not self._circuit.allows():
            return _Obstacle.DOWN
        return await self._looks.run(key, lambda: self._try_look(key, load, ttl, tags))

    async def _try_look(
        self, key: str, load: Load, ttl: Ttl, tags: Sequence[str]
    ) -> Entry | _Flight | _Obstacle:
        try:
            found = await self._look(key, load, ttl, tags)
        except _DOWN as error:
            if not self._circuit.is_open:
                log.warning("Redis is unreachable, reading from the database", error=reason(error))
            self._circuit.failed()
            return _Obstacle.DOWN
        except RedisError as error:  # it answers, but not this: out of memory, a key of another type
            log.warning("Redis refused, reading from the database", error=reason(error))
            return _Obstacle.DOWN
        self._circuit.succeeded()
        return found

    async def _look(self, key: str, load: Load, ttl: Ttl, tags: Sequence[str]) -> Entry | _Flight | _Obstacle:
        for _ in range(_ATTEMPTS):
            raw, stamps = await self._leases.look(key, tags)
            held = decode(raw)
            if isinstance(held, Entry) and held.stamps == stamps:
                return held
            if isinstance(held, Lease):
                flight = self._flights.get(held.token)
                if flight is None:
                    return _Obstacle.BUSY
                # The lease stands, so no invalidation of the key came since it was taken; nor one of a
                # tag if the stamps are those of before the load. Otherwise the load is too old for us.
                if flight.stamps == stamps:
                    return flight
            dead = b"" if held is None else held.token
            token, fresh, other = await self._leases.acquire(key, tags, stamps, dead, self._stamp_ms(ttl))
            if other is None:
                return self._take_off(key, token, tags, fresh, load, ttl)
        return _Obstacle.BUSY

    def _take_off(
        self, key: str, token: bytes, tags: Sequence[str], stamps: Stamps, load: Load, ttl: Ttl
    ) -> _Flight:
        """Load in a task of our own: it must not end with the request that happened to come first."""
        task = asyncio.create_task(self._load_and_fill(key, token, tags, stamps, load, ttl))
        flight = self._flights[token] = _Flight(task, stamps)
        task.add_done_callback(lambda done: self._land(token, done))
        return flight

    def _land(self, token: bytes, task: asyncio.Task[bytes | None]) -> None:
        del self._flights[token]
        if not task.cancelled():
            task.exception()  # every caller may have left: then nobody else retrieves it

    async def _load_and_fill(
        self, key: str, token: bytes, tags: Sequence[str], stamps: Stamps, load: Load, ttl: Ttl
    ) -> bytes | None:
        started = time.perf_counter()
        try:
            value = await load()
        except BaseException:
            await self._quietly(self._leases.release(key, token))
            raise
        self._metrics.cache_load_seconds.observe(time.perf_counter() - started)
        if value is None or len(value) > self._max_bytes:
            await self._quietly(self._leases.release(key, token))
            return value
        seconds = ttl if isinstance(ttl, int) else ttl(value)
        filled = await self._quietly(self._leases.fill(key, token, tags, stamps, value, seconds * 1000))
        if filled is False:
            self._metrics.cache_stale_drops.labels("redis").inc()
        return value

    async def _quietly(self, command: Awaitable[bool | None]) -> bool | None:
        """A command whose failure costs no more than a later miss."""
        try:
            return await command
        except (RedisError, *_DOWN) as error:
            log.debug("Redis command failed", error=type(error).__name__)
            return None

    def _answer(self, value: bytes | None, source: Source) -> Cached:
        result = {Source.REDIS: "hit", Source.DATABASE: "miss", Source.BYPASS: "bypass"}[source]
        self._metrics.cache_requests.labels("redis", result).inc()
        return Cached(value, source)

    @staticmethod
    def _stamp_ms(ttl: Ttl) -> int:
        """How long a new stamp lives until a fill says better; a lost one costs a miss, never an error."""
        return (ttl if isinstance(ttl, int) else 3600) * 1000
