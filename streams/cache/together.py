"""Many keys filled at once: each by the protocol of leases, one round trip and one statement for all of them.

What is right for one key is right for each of these (docs/caching.md): its lease is taken before the load
begins, and it is stored only if that lease still stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from streams.cache.entry import Entry, Lease, decode
from streams.cache.found import Cached, LoadMany, Source, Want
from streams.cache.leases import Dead, Leases, Stamps
from streams.cache.loading import Flight, Keeping, Loading
from streams.cache.local import Fill, Local
from streams.telemetry import Metrics


class Filled(Enum):
    """What came of a key."""

    LOADED = auto()
    FOUND = auto()
    """It was in Redis."""
    BUSY = auto()
    """Somebody else is loading it."""
    OVERTAKEN = auto()
    """It was invalidated meanwhile, or Redis failed: what was loaded is in no cache."""
    NOTHING = auto()
    """There is no such thing, or it is too large to be stored."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of each key, and the values that were loaded, whether they could be stored or not."""

    outcomes: Mapping[str, Filled]
    values: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease of ours, and who may join the load under it."""

    want: Want
    lease: Lease
    stamps: Stamps
    fill: Fill | None
    loaded: asyncio.Future[Cached | None]


class Together:
    """Args:
    local: where values are held as well; None: nowhere.
    """

    def __init__(
        self, leases: Leases, loading: Loading, local: Local | None, keeping: Keeping, metrics: Metrics
    ) -> None:
        self._leases = leases
        self._loading = loading
        self._local = local
        self._keeping = keeping
        self._metrics = metrics

    async def fill(self, wants: Sequence[Want], load: LoadMany) -> Result:
        """Fill those that hold nothing, and hold in memory what is found.

        Raises:
            redis.RedisError, OSError: Redis does not answer.
            Exception: what `load` raises; the leases are given back.
        """
        local = self._local
        fills = {want.key: local.begin(want) for want in wants} if local is not None else {}
        try:
            outcomes: dict[str, Filled] = {}
            held = await self._lease(await self._look(wants, fills, outcomes), fills, outcomes)
            values = await self._load(held, load, outcomes) if held else {}
        finally:
            if local is not None:
                for fill in fills.values():
                    local.end(fill)
        return Result(outcomes, values)

    async def _look(
        self, wants: Sequence[Want], fills: Mapping[str, Fill], outcomes: dict[str, Filled]
    ) -> list[Dead]:
        """Those that hold nothing of use."""
        dead = []
        now = self._keeping.now()
        for want, looked in zip(wants, await self._leases.look(wants), strict=True):
            held = decode(looked.raw)
            if isinstance(held, Entry) and (held.epoch, held.stamps) == (looked.epoch, looked.stamps):
                outcomes[want.key] = Filled.FOUND
                if now < held.expires:
                    self._remember(fills.get(want.key), held, now)
            elif isinstance(held, Lease) and held.epoch == looked.epoch:
                outcomes[want.key] = Filled.BUSY
            else:
                token = b"" if held is None else held.token
                dead.append(Dead(want, looked, token, self._keeping.stamp_ms(want)))
        return dead

    async def _lease(
        self, dead: Sequence[Dead], fills: Mapping[str, Fill], outcomes: dict[str, Filled]
    ) -> list[_Held]:
        """Those of which the lease is ours; others may join their loads from now on."""
        if not dead:
            return []
        loop, held = asyncio.get_running_loop(), []
        for one, acquired in zip(dead, await self._leases.acquire(dead), strict=True):
            key = one.want.key
            if not acquired.ours:
                outcomes[key] = Filled.BUSY
                continue
            lease, stamps, fill = acquired.lease, acquired.stamps, fills.get(key)
            loaded: asyncio.Future[Cached | None] = loop.create_future()
            self._loading.take_off(lease.token, Flight(loaded, lease.epoch, stamps, fill))
            held.append(_Held(one.want, lease, stamps, fill, loaded))
        return held

    async def _load(
        self, held: Sequence[_Held], load: LoadMany, outcomes: dict[str, Filled]
    ) -> Mapping[str, bytes]:
        begun = self._keeping.now()
        values: Mapping[str, bytes] = {}
        try:
            values = await self._loading.load_many([one.want.key for one in held], load)
            await self._store(held, values, begun, outcomes)
        except BaseException:
            # Those who joined look again: the fault may be another key's.
            await self._loading.quietly(
                self._leases.release(*((one.want.key, one.lease.token) for one in held))
            )
            raise
        finally:
            for one in held:
                value = values.get(one.want.key)
                is_known = one.want.key in outcomes
                if not one.loaded.done():
                    one.loaded.set_result(Cached(value, Source.DATABASE) if is_known else None)
        return values

    async def _store(
        self, held: Sequence[_Held], values: Mapping[str, bytes], begun: int, outcomes: dict[str, Filled]
    ) -> None:
        keeping = self._keeping
        filling, useless = [], []
        for one in held:
            value = values.get(one.want.key)
            if value is None or len(value) > keeping.max_bytes:
                useless.append((one.want.key, one.lease.token))
                outcomes[one.want.key] = Filled.NOTHING
                continue
            entry, lives = self._loading.entry(one.want, one.lease, one.stamps, value, begun)
            filling.append((one, entry, lives))
        if useless:
            await self._loading.quietly(self._leases.release(*useless))
        if not filling:
            return
        stored = await self._loading.quietly(
            self._leases.fill_all([(one.want, one.lease, entry, lives) for one, entry, lives in filling])
        )
        now = keeping.now()
        for (one, entry, _), is_stored in zip(filling, stored or [False] * len(filling), strict=True):
            outcomes[one.want.key] = Filled.LOADED if is_stored else Filled.OVERTAKEN
            if is_stored:
                self._remember(one.fill, entry, now)
            elif stored:
                self._metrics.cache_stale_drops.labels("redis").inc()

    def _remember(self, fill: Fill | None, entry: Entry, now: int) -> None:
        if self._local is not None and fill is not None:
            self._local.put(fill, entry.value, (entry.refresh - now) / 1000)
