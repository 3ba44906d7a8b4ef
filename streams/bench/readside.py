"""Who reads what in an open loop: entities that are stored, by Zipf's law, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from streams.bench.freshness import Freshness
from streams.bench.misses import Misses
from streams.bench.place import Place
from streams.bench.reading import Population, Reader, Reads
from streams.bench.service import Processes, Samples, total

_REFRESH_SECONDS: Final = 1.0
_MOST_PATHS: Final = 5_000
_SHARES: Final = {"tasks": 0.7, "agents": 0.2, "rounds": 0.1}
_STORED: Final = "SELECT id FROM {table} ORDER BY hashtext(id::text), id LIMIT $1"
_NEWEST: Final = "SELECT id FROM {table} ORDER BY created_at DESC, id LIMIT $1"
_NEW_TASKS: Final = "SELECT id FROM tasks WHERE created_at >= $1 AND created_at < $2 ORDER BY id"
_LEVELS: Final = ("l1", "redis")
_CAME_OF_IT: Final = ("done", "shared", "overtaken", "shed", "failed")
_UNASKED: Final = (
    ("refreshes", "streams_cache_refreshes_total", _CAME_OF_IT),
    ("read ahead", "streams_cache_read_ahead_total", (*_CAME_OF_IT, "used", "unused")),
)


@dataclass(frozen=True, slots=True)
class Readers:
    """How they read. `warm`: everything is read once beforehand; `newest_first`: the newest task is the most
    popular one, instead of popularity that has nothing to do with age; `grows`: new tasks join."""

    rate: float
    seconds: float
    warm_up: float
    seed: int
    warm: bool
    newest_first: bool
    grows: bool


async def read(
    place: Place, processes: Processes, readers: Readers, freshness: Freshness
) -> tuple[Reads, dict[str, float]]:
    """Read; the figures are those of hits and misses, by kind, reason and level."""
    population, misses = Population(Random(readers.seed), {}), Misses(freshness.keys)
    reader = Reader(processes.bases["api"], misses)
    async with _kept_up(place, population, readers):
        try:
            if readers.warm:
                await reader.warm(population.paths)
            before, evicted = await processes.metrics("api"), await _evicted(place)
            reads = await reader.run(population.path, readers.rate, readers.seconds, readers.warm_up)
        finally:
            await reader.close()
    after = await processes.metrics("api")
    levels = _by_level(before, after)
    lookups = max(1.0, readers.rate * readers.seconds)
    lost = await _evicted(place) - evicted + levels.pop("evicted")
    sources = {f"reads.{source}": float(count) for source, count in sorted(reads.sources.items())}
    return reads, {
        **reads.latency.milliseconds("read_ms"),
        **sources,
        "hit_ratio": reads.hit_ratio,
        **misses.figures(),
        **levels,
        **_unasked(before, after, lookups),
        "evictions per read": lost / lookups,
    }


def _by_level(before: Samples, after: Samples) -> dict[str, float]:
    """Of the look-ups at each level, the share that was answered there; memory is asked first."""
    found = {}
    for level in _LEVELS:
        counts = {
            result: total(after, "streams_cache_requests_total", level=level, result=result)
            - total(before, "streams_cache_requests_total", level=level, result=result)
            for result in ("hit", "miss", "bypass", "stale")
        }
        if asked := sum(counts.values()):
            found[f"hits of level {level}"] = counts["hit"] / asked
    evictions = "streams_cache_evictions_total"
    return found | {"evicted": total(after, evictions) - total(before, evictions)}


def _unasked(before: Samples, after: Samples, reads: float) -> dict[str, float]:
    """What the cache loaded by itself, and all that PostgreSQL was asked for, per read."""

    def grown(name: str, **labels: str) -> float:
        return (total(after, name, **labels) - total(before, name, **labels)) / reads

    found = {
        f"{what} per read, {result}": count
        for what, name, results in _UNASKED
        for result in results
        if (count := grown(name, result=result))
    }
    return found | {"values loaded per read": grown("streams_cache_requests_total", level="database")}


async def _evicted(place: Place) -> float:
    """Keys that Redis has evicted since it started."""
    return float((await place.cache.info("stats"))["evicted_keys"])


@asynccontextmanager
async def _kept_up(place: Place, population: Population, readers: Readers) -> AsyncIterator[None]:
    """The population is what is stored; under writes, new tasks join it every second."""
    for kind, share in _SHARES.items():
        statement = _NEWEST if readers.newest_first else _STORED
        rows = await place.database.fetch(statement.format(table=kind), _MOST_PATHS)
        population.kinds[kind] = (share, [f"/v1/{kind}/{row['id']}" for row in rows])
    task = asyncio.create_task(_keep_up(place, population, readers)) if readers.grows else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _keep_up(place: Place, population: Population, readers: Readers) -> None:
    since = datetime.now(UTC)
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        upto = datetime.now(UTC)
        rows = await place.database.fetch(_NEW_TASKS, since, upto)
        paths = [f"/v1/tasks/{row['id']}" for row in rows]
        population.admit("tasks", paths, _MOST_PATHS, newest_first=readers.newest_first)
        since = upto
