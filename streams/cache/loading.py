"""Loads under way: at most one for each key in a process, under a lease or in place of an entry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.cache.circuit import Circuit
from streams.cache.entry import Entry, Lease, new_token
from streams.cache.found import Cached, Source, Want
from streams.cache.leases import Leases, Seen, Stamps
from streams.cache.local import Fill, Local
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

REDIS_DOWN: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    OSError,
    TimeoutError,
)
DATABASE_DOWN: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
"""What a load raises when the database cannot be asked: what is cached may stand in, marked stale."""

_EARLY_SHARE: Final = 0.1
_EARLIEST_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long values are kept.

    Args:
        max_bytes: larger values are not stored.
        stale_seconds: how long a value whose time is up stands by for the case that the database is down.
        early: load a value anew, in the background, shortly before its time is up.
        clock: seconds since 1970.
    """

    max_bytes: int = 1_000_000
    stale_seconds: int = 600
    early: bool = True
    clock: Callable[[], float] = time.time

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock() * 1000)

    def grace_ms(self, want: Want) -> int:
        return 0 if want.strict else self.stale_seconds * 1000

    def refresh(self, want: Want, expires: int, seconds: int) -> int:
        if want.strict or not self.early:
            return expires
        return expires - int(min(seconds * _EARLY_SHARE, _EARLIEST_SECONDS) * 1000)


@dataclass(frozen=True, slots=True)
class Flight:
    """A load under way in this process, with the epoch and the stamps of before it began."""

    task: asyncio.Task[Cached]
    epoch: bytes
    stamps: Stamps
    fill: Fill | None


class Loading:
    """Loads values, and stores them where no invalidation has come between."""

    def __init__(self, leases: Leases, local: Local | None, keeping: Keeping, metrics: Metrics) -> None:
        self._leases = leases
        self._local = local
        self._keeping = keeping
        self._metrics = metrics
        self._flights: dict[bytes, Flight] = {}
        self._early: dict[bytes, asyncio.Task[None]] = {}
        self.database = Circuit()
        """Open while the database is unreachable, as far as loads can tell."""

    def joinable(self, token: bytes, epoch: bytes, stamps: Seen) -> Flight | None:
        """The load of this token, for a caller who has just seen the token, this epoch and these stamps.

        What stands under the key is what the load began with, so no invalidation of the key has come since;
        nor one of a tag if the stamps are those of before. Otherwise the load is too old.
        """
        flight = self._flights.get(token)
        return flight if flight and flight.epoch == epoch and flight.stamps == stamps else None

    def is_ours(self, token: bytes) -> bool:
        return token in self._flights

    def start(self, want: Want, hold: Lease | Entry, stamps: Stamps, fill: Fill | None) -> Flight:
        """Load in a task of our own: it must not end with the request that happened to come first.

        Args:
            hold: the lease to load under, or the entry to replace, whose refresh has been claimed.
            fill: ended with the load.
        """
        task = asyncio.create_task(self._load_and_store(want, hold, stamps, fill))
        flight = self._flights[hold.token] = Flight(task, hold.epoch, stamps, fill)
        task.add_done_callback(lambda done: self._land(hold.token, done))
        return flight

    def start_early(self, want: Want, entry: Entry) -> None:
        """Have an entry that still holds loaded anew, if nobody else does it."""
        if entry.token not in self._early and entry.token not in self._flights:
            task = self._early[entry.token] = asyncio.create_task(self._refresh(want, entry))
            task.add_done_callback(lambda _: self._early.pop(entry.token))

    async def load(self, want: Want) -> bytes | None:
        """The value from the database, stored nowhere."""
        started = time.perf_counter()
        try:
            value = await want.load()
        except BaseException as error:
            self._metrics.cache_requests.labels("database", "error").inc()
            if isinstance(error, DATABASE_DOWN):
                self.database.failed()
            raise
        self._metrics.cache_load_seconds.observe(time.perf_counter() - started)
        self._metrics.cache_requests.labels("database", "miss" if value is None else "hit").inc()
        self.database.succeeded()
        return value

    async def close(self) -> None:
        """Break off what nobody waits for any more."""
        tasks = [*(flight.task for flight in self._flights.values()), *self._early.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _refresh(self, want: Want, entry: Entry) -> None:
        if await self._quietly(
            self._leases.claim(want.key, entry, self._leases.claim_until(self._keeping.now()))
        ):
            fill = self._local.begin(want) if self._local is not None else None
            flight = self.start(want, entry, entry.stamps, fill)
            await asyncio.wait({flight.task})

    def _land(self, token: bytes, task: asyncio.Task[Cached]) -> None:
        del self._flights[token]
        if not task.cancelled():
            task.exception()  # every caller may have left: then nobody else retrieves it

    async def _load_and_store(
        self, want: Want, hold: Lease | Entry, stamps: Stamps, fill: Fill | None
    ) -> Cached:
        try:
            return await self._load_under(want, hold, stamps, fill)
        finally:
            if self._local is not None and fill is not None:
                self._local.end(fill)

    async def _load_under(self, want: Want, hold: Lease | Entry, stamps: Stamps, fill: Fill | None) -> Cached:
        begun = self._keeping.now()  # a value is as old as the beginning of its load
        try:
            value = await self.load(want)
        except BaseException as error:
            if isinstance(hold, Entry) and isinstance(error, DATABASE_DOWN):
                return Cached(hold.value, Source.REDIS, stale=True)
            if isinstance(hold, Lease):
                await self._quietly(self._leases.release(want.key, hold.token))
            raise
        if value is None or len(value) > self._keeping.max_bytes:
            await self._quietly(self._leases.release(want.key, hold.token))
            return Cached(value, Source.DATABASE)
        seconds = want.seconds(value)
        stored = await self._store(want, hold, stamps, value, begun, seconds)
        if stored is not None and self._local is not None and fill is not None:
            self._local.put(fill, value, (stored.refresh - self._keeping.now()) / 1000)
        return Cached(value, Source.DATABASE)

    async def _store(
        self, want: Want, hold: Lease | Entry, stamps: Stamps, value: bytes, begun: int, seconds: int
    ) -> Entry | None:
        """What stands in Redis now; None if an invalidation came between, or Redis failed."""
        expires = begun + seconds * 1000
        refresh = self._keeping.refresh(want, expires, seconds)
        lives = seconds * 1000 + self._keeping.grace_ms(want)
        if isinstance(hold, Lease):
            entry = Entry(hold.token, hold.epoch, expires, refresh, stamps, value)
            storing = self._leases.fill(want.key, hold, want.tags, entry, lives)
        else:
            entry = Entry(new_token(), hold.epoch, expires, refresh, stamps, value)
            storing = self._leases.replace(want.key, hold.token, want.tags, entry, lives)
        stored = await self._quietly(storing)
        if stored is False:
            self._metrics.cache_stale_drops.labels("redis").inc()
        return entry if stored else None

    async def _quietly(self, command: Awaitable[bool | None]) -> bool | None:
        """A command whose failure costs no more than a later miss."""
        try:
            return await command
        except (RedisError, *REDIS_DOWN) as error:
            log.debug("Redis command failed", error=type(error).__name__)
            return None
