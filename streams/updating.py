"""What updaters work with: cached values, Redis itself, and what the database says."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas.contract import RowReader
from streams.cache import Cache, RedisClient
from streams.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Updating:
    """A `CacheWriter`. It neither opens nor closes what it is given."""

    cache: Cache
    redis: RedisClient
    rows: RowReader | None = None
    metrics: Metrics | None = None

    async def invalidate(self, keys: AbstractSet[str], tags: AbstractSet[str]) -> None:
        await self.cache.invalidate(keys, tags)
