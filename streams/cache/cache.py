"""The cache as its users see it: `get` for readers, `invalidate` for updaters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Final

import structlog
from redis.exceptions import RedisError

from schemas.cache import is_strict
from streams.cache.circuit import Circuit
from streams.cache.client import RedisClient
from streams.cache.coalesce import Coalescer
from streams.cache.entry import Entry, Lease, decode
from streams.cache.found import Cached, Group, Load, LoadMany, Source, Ttl, Want
from streams.cache.leases import Dead, Leases, tag_key
from streams.cache.link import Link
from streams.cache.loading import DATABASE_DOWN, REDIS_DOWN, Flight, Keeping, Loading
from streams.cache.local import Fill, Local, LocalLimits
from streams.cache.refresh import Refresher, Refreshing
from streams.cache.together import Together
from streams.refusal import reason
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

_CHUNK: Final = 1000
_ATTEMPTS: Final = 3
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05
_MOST_EPOCHS: Final = 1000
_RESULTS: Final = {Source.REDIS: "hit", Source.DATABASE: "miss", Source.BYPASS: "bypass"}


@dataclass(frozen=True, slots=True)
class _Busy:
    """Another process is loading."""

    standby: bytes | None = None
    """A value whose time is up, and that no invalidation has touched."""


class _Down:
    """Redis cannot be asked."""


_Finding = Cached | Flight | _Busy | _Down


class Cache:
    """This process's memory, if it has any, in front of Redis, in front of a database.

    Values are bytes (compact JSON). None, for what does not exist, is never stored: ids that somebody
    makes up must not fill Redis.

    Args:
        lease_seconds: how long a load may take and still be stored.
        wait_seconds: how long to wait for another process's load before loading without storing.
        local: what may be held in memory; None: nothing. It holds nothing before `confirm` either.
        refresh: what may be loaded that nobody is waiting for; None: nothing. Only what is in memory is.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        metrics: Metrics | None = None,
        lease_seconds: float = 10.0,
        wait_seconds: float = 0.25,
        keeping: Keeping | None = None,
        local: LocalLimits | None = None,
        refresh: Refreshing | None = Refreshing(),  # noqa: B008 - it cannot change
        circuit: Circuit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._link = Link(redis)
        self._leases = Leases(self._link, lease_ms=int(lease_seconds * 1000))
        self._wait_seconds = wait_seconds
        self._keeping = keeping or Keeping()
        self._circuit = circuit or Circuit()
        self._complaints = Circuit()
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._local = None if local is None else Local(self._metrics, local, clock)
        self._loading = Loading(self._leases, self._local, self._keeping, self._metrics)
        self._together = Together(self._leases, self._loading, self._local, self._keeping, self._metrics)
        self._refresher = self._new_refresher(refresh)
        self._epochs: frozenset[bytes] = frozenset()
        self._looks: Coalescer[_Finding] = Coalescer()
        self._loads: Coalescer[bytes | None] = Coalescer()
        self._local_hit = self._metrics.cache_requests.labels("l1", "hit")
        self._local_miss = self._metrics.cache_requests.labels("l1", "miss")

    async def get(self, key: str, load: Load, *, ttl: Ttl, tags: Sequence[str] = ()) -> Cached:
        """The value under `key`, from memory, from Redis or from `load`.

        Never older than an invalidation of the key, or of one of the tags, that had been applied to Redis
        when this was called; from memory: that this process had heard of. Callers at the same time share
        one load; so do processes, mostly.

        While the database is unreachable, `Cached.stale` is set on what comes from the cache all the same.

        Args:
            load: reads the value from the primary database, never from a replica or another cache.
            ttl: seconds to keep a value, or a function of the value.
            tags: the same ones whenever the key is read.

        Raises:
            Exception: what `load` raises; nothing because of Redis.
        """
        if self._local is not None and not self._loading.database.is_open:
            slot = None if is_strict(key) else self._local.get(key)
            if slot is not None:
                self._local_hit.inc()
                return Cached(slot.value, Source.MEMORY)
            self._local_miss.inc()
        want = Want(key, load, ttl, tags, is_strict(key))
        found = await self._fetch(want)
        if not isinstance(found, Cached):
            found = await self._bypass(want, found)
        result = "stale" if found.stale else _RESULTS[found.source]
        self._metrics.cache_requests.labels("redis", result).inc()
        return found

    async def invalidate(self, keys: AbstractSet[str], tags: AbstractSet[str]) -> None:
        """Make every value under these keys, and every value filled under these tags, unreadable,
        fills in flight included. Idempotent.

        Raises:
            redis.RedisError, OSError: some of them may still be readable; do it again.
        """
        names = chain(keys, map(tag_key, tags))
        while chunk := list(islice(names, _CHUNK)):
            await self._leases.forget(chunk)

    def hear(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Drop from memory what has been invalidated in Redis; load again what is read, and what is new."""
        if self._local is not None:
            names = list(keys)
            dropped = self._local.invalidate(names, tags)
            if self._refresher is not None and self._local.is_open:
                self._refresher.offer(names, dropped)

    def load_together(self, groups: Iterable[Group]) -> None:
        """Load keys of these groups by one statement for many, when they are loaded again or ahead."""
        if self._refresher is not None:
            self._refresher.load_together(groups)

    async def fill(self, keys: Sequence[str], load: LoadMany, *, ttl: Ttl) -> Mapping[str, bytes]:
        """Fill those of the keys that hold nothing, by one statement and under a lease each.

        Returns:
            What was loaded, stored or not.

        Raises:
            redis.RedisError, OSError: Redis does not answer.
            Exception: what `load` raises.
        """
        wants = [Want(key, partial(_one, key, load), ttl, (), is_strict(key)) for key in keys]
        return (await self._together.fill(wants, load)).values

    async def confirm(self, until: float) -> None:
        """Hold values in memory until then, on the monotonic clock: invalidations are being heard.

        Raises:
            redis.RedisError, OSError: Redis does not answer, so that none can be applied. Nothing changed.
        """
        self._note(await self._link.epochs())
        if self._local is not None:
            self._local.open(until)

    def deafen(self) -> None:
        """Hold nothing in memory any more: invalidations may have been missed."""
        if self._local is not None:
            self._local.close()
        if self._refresher is not None:
            self._refresher.clear()

    @property
    def hears(self) -> bool | None:
        """Whether values are held in memory, since invalidations are heard; None: they never are."""
        return None if self._local is None else self._local.is_open

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(await self._redis.ping())
        except (RedisError, *REDIS_DOWN):
            return False

    async def close(self) -> None:
        """Break off loads that nobody waits for any more, and close the connections."""
        self.deafen()
        if self._refresher is not None:
            await self._refresher.close()
        await self._loading.close()
        await self._looks.close()
        await self._loads.close()
        await self._redis.aclose()

    async def _fetch(self, want: Want) -> Cached | _Busy | _Down:
        """The value from Redis, or loaded and stored there; or why it is not to be had like that."""
        give_up = time.monotonic() + self._wait_seconds
        pause = _FIRST_PAUSE
        while True:
            found = await self._find(want)
            if isinstance(found, Cached):
                return found
            if isinstance(found, Flight):
                landed = await asyncio.shield(found.task)
                if landed is not None:
                    return landed
                continue
            if isinstance(found, _Down) or time.monotonic() + pause > give_up:
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _bypass(self, want: Want, obstacle: _Busy | _Down) -> Cached:
        """The value from the database, without storing it."""
        standby = obstacle.standby if isinstance(obstacle, _Busy) else None
        try:
            value = await self._loads.run(want.key, lambda: self._loading.load(want))
        except DATABASE_DOWN:
            if standby is None:
                raise
            return Cached(standby, Source.REDIS, stale=True)
        return Cached(value, Source.BYPASS)

    async def _find(self, want: Want) -> _Finding:
        if not self._circuit.allows():
            return _Down()
        return await self._looks.run(want.key, lambda: self._try_look(want))

    async def _try_look(self, want: Want) -> _Finding:
        fill = self._local.begin(want) if self._local is not None else None
        found: _Finding = _Down()
        try:
            found = await self._look(want, fill)
        except REDIS_DOWN as error:
            if not self._circuit.is_open:
                log.warning("Redis is unreachable, reading from the database", error=reason(error))
            self._circuit.failed()
        except RedisError as error:  # it answers, but not this: out of memory, a key of another type
            if self._complaints.allows():
                self._complaints.failed()
                log.warning("Redis refused, reading from the database", error=reason(error))
        else:
            self._circuit.succeeded()
        finally:
            taken_along = isinstance(found, Flight) and found.fill is fill
            if self._local is not None and fill is not None and not taken_along:
                self._local.end(fill)
        return found

    async def _look(self, want: Want, fill: Fill | None) -> _Finding:
        for _ in range(_ATTEMPTS):
            [looked] = await self._leases.look([want])
            epoch, stamps = looked.epoch, looked.stamps
            self._note(self._epochs | {epoch})
            held = decode(looked.raw)
            if isinstance(held, Entry) and (held.epoch, held.stamps) == (epoch, stamps):
                found = await self._use(want, held, fill)
                if found is not None:
                    return found
            if isinstance(held, Lease) and held.epoch == epoch:
                flight = self._loading.joinable(held.token, epoch, stamps)
                if flight is not None or not self._loading.is_ours(held.token):
                    return flight or _Busy()
            token = b"" if held is None else held.token
            dead = Dead(want, looked, token, self._keeping.stamp_ms(want))
            [acquired] = await self._leases.acquire([dead])
            if acquired.ours:
                return self._loading.start(want, acquired.lease, acquired.stamps, fill)
        return _Busy()

    async def _use(self, want: Want, held: Entry, fill: Fill | None) -> _Finding | None:
        """An entry that no invalidation has touched: its value, or that of a load if its time is up; None if
        it is of no use even so."""
        database, now = self._loading.database, self._keeping.now()
        if now < held.expires:
            if now >= held.refresh or (database.is_open and database.allows()):
                self._loading.start_early(want, held)
            if self._local is not None and fill is not None and not database.is_open:
                self._local.put(fill, held.value, (held.refresh - now) / 1000)
            return Cached(held.value, Source.REDIS, stale=database.is_open)
        if want.strict:
            return None
        flight = self._loading.joinable(held.token, held.epoch, held.stamps)
        if flight is not None:
            return flight
        if database.is_open and not database.allows():
            return Cached(held.value, Source.REDIS, stale=True)
        if await self._leases.claim(want.key, held, self._leases.claim_until(now)):
            return self._loading.start(want, held, held.stamps, fill)
        return _Busy(held.value)

    def _note(self, epochs: frozenset[bytes]) -> None:
        """Another server, or another life of the same: let nothing stand that came from before."""
        if not epochs <= self._epochs:
            if self._epochs and self._local is not None:
                log.info("another Redis answers than before, memory is emptied")
                self._local.flush()
            self._epochs = epochs if len(self._epochs) > _MOST_EPOCHS else self._epochs | epochs

    def _new_refresher(self, bounds: Refreshing | None) -> Refresher | None:
        if self._local is None or bounds is None or not bounds.keys_per_second:
            return None
        return Refresher(
            self._local,
            self._together.fill,
            self._fetch,
            self._metrics,
            bounds,
            is_usable=self._is_usable,
            clock=self._clock,
            now=self._keeping.clock,
        )

    def _is_usable(self) -> bool:
        down = self._circuit.is_open or self._loading.database.is_open
        return self._local is not None and self._local.is_open and not down


async def _one(key: str, load: LoadMany) -> bytes | None:
    return (await load([key])).get(key)
