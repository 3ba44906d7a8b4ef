"""Loads under way: at most one for each key in a process, under a lease or in place of an entry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.cache.circuit import Circuit
from streams.cache.entry import Entry, Lease, new_token
from streams.cache.found import Cached, LoadMany, Source, Want
from streams.cache.leases import Leases, Seen, Stamps
from streams.cache.local import Fill, Local
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

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
        return 0 if want.strict or want.ahead else self.stale_seconds * 1000

    def stamp_ms(self, want: Want) -> int:
        """How long a new stamp lives until a fill says better; a lost one costs a miss, never an error."""
        return (want.ttl if isinstance(want.ttl, int) else 3600) * 1000 + self.grace_ms(want)

    def refresh(self, want: Want, expires: int, seconds: int) -> int:
        if want.strict or not self.early:
            return expires
        return expires - int(min(seconds * _EARLY_SHARE, _EARLIEST_SECONDS) * 1000)


@dataclass(frozen=True, slots=True)
class Flight:
    """A load under way in this process, with the epoch and the stamps of before it began.

    `task` ends in None where the load failed for reasons that may be those of another key: look again.
    """

    task: asyncio.Future[Cached | None]
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
        loading = self._load_and_store(want, hold, stamps, fill)
        task: asyncio.Task[Cached | None] = asyncio.create_task(loading)
        flight = Flight(task, hold.epoch, stamps, fill)
        self.take_off(hold.token, flight)
        return flight

    def take_off(self, token: bytes, flight: Flight) -> None:
        """Let others join a load until it has ended."""
        self._flights[token] = flight
        flight.task.add_done_callback(lambda done: self._land(token, done))

    def start_early(self, want: Want, entry: Entry) -> None:
        """Have an entry that still holds loaded anew, if nobody else does it."""
        if entry.token not in self._early and entry.token not in self._flights:
            task = self._early[entry.token] = asyncio.create_task(self._refresh(want, entry))
            task.add_done_callback(lambda _: self._early.pop(entry.token))

    async def load(self, want: Want) -> bytes | None:
        """The value from the database, stored nowhere."""
        with self._statement(1):
            value = await want.load()
        self._metrics.cache_requests.labels("database", "miss" if value is None else "hit").inc()
        return value

    async def load_many(self, keys: Sequence[str], load: LoadMany) -> Mapping[str, bytes]:
        """Values from the database by one statement, stored nowhere."""
        with self._statement(len(keys)):
            values = await load(keys)
        self._metrics.cache_requests.labels("database", "hit").inc(len(values))
        if len(values) < len(keys):
            self._metrics.cache_requests.labels("database", "miss").inc(len(keys) - len(values))
        return values

    def entry(
        self, want: Want, hold: Lease | Entry, stamps: Stamps, value: bytes, begun: int
    ) -> tuple[Entry, int]:
        """What is to be stored, and for how many milliseconds.

        Args:
            begun: when its load began: a value is as old as that.
        """
        seconds = want.seconds(value)
        expires = begun + seconds * 1000
        token = hold.token if isinstance(hold, Lease) else new_token()
        refresh = self._keeping.refresh(want, expires, seconds)
        entry = Entry(token, hold.epoch, expires, refresh, stamps, value)
        return entry, seconds * 1000 + self._keeping.grace_ms(want)

    @contextmanager
    def _statement(self, keys: int) -> Iterator[None]:
        """Watch a statement that loads so many."""
        started = time.perf_counter()
        try:
            yield
        except BaseException as error:
            self._metrics.cache_requests.labels("database", "error").inc(keys)
            if isinstance(error, DATABASE_DOWN):
                self.database.failed()
            raise
        self._metrics.cache_load_seconds.observe(time.perf_counter() - started)
        self.database.succeeded()

    async def close(self) -> None:
        """Break off what nobody waits for any more."""
        tasks: list[asyncio.Future[Any]] = [
            *(flight.task for flight in self._flights.values()),
            *self._early.values(),
        ]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _refresh(self, want: Want, entry: Entry) -> None:
        if await self.quietly(
            self._leases.claim(want.key, entry, self._leases.claim_until(self._keeping.now()))
        ):
            fill = self._local.begin(want) if self._local is not None else None
            flight = self.start(want, entry, entry.stamps, fill)
            await asyncio.wait({flight.task})

    def _land(self, token: bytes, task: asyncio.Future[Cached | None]) -> None:
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
                await self.quietly(self._leases.release((want.key, hold.token)))
            raise
        if value is None or len(value) > self._keeping.max_bytes:
            await self.quietly(self._leases.release((want.key, hold.token)))
            return Cached(value, Source.DATABASE)
        stored = await self._store(want, hold, stamps, value, begun)
        if stored is not None and self._local is not None and fill is not None:
            self._local.put(fill, value, (stored.refresh - self._keeping.now()) / 1000)
        return Cached(value, Source.DATABASE)

    async def _store(
        self, want: Want, hold: Lease | Entry, stamps: Stamps, value: bytes, begun: int
    ) -> Entry | None:
        """What stands in Redis now; None if an invalidation came between, or Redis failed."""
        entry, lives = self.entry(want, hold, stamps, value, begun)
        if isinstance(hold, Lease):
            storing = self._leases.fill(want.key, hold, want.tags, entry, lives)
        else:
            storing = self._leases.replace(want.key, hold.token, want.tags, entry, lives)
        stored = await self.quietly(storing)
        if stored is False:
            self._metrics.cache_stale_drops.labels("redis").inc()
        return entry if stored else None

    async def quietly(self, command: Awaitable[T]) -> T | None:
        """A command whose failure costs no more than a later miss."""
        try:
            return await command
        except (RedisError, *REDIS_DOWN) as error:
            log.debug("Redis command failed", error=type(error).__name__)
            return None
