"""How long each route of the read API takes, answered from a cache and answered from PostgreSQL."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from streams.bench import openloop
from streams.bench.finding import Finding
from streams.bench.openloop import Load
from streams.bench.place import Place
from streams.bench.reading import Population, Reader
from streams.bench.service import Processes

_WARM_UP: Final = 0.5
_MOST_PATHS: Final = 500
_NOBODY: Final = "redis://127.0.0.1:1/0"
"""Where no Redis is: everything is read from the database."""

_IDS: Final = {
    "task": "SELECT id FROM tasks ORDER BY hashtext(id::text), id LIMIT $1",
    "agent": "SELECT id FROM agents ORDER BY hashtext(id::text), id LIMIT $1",
    "round": "SELECT id FROM rounds ORDER BY hashtext(id::text), id LIMIT $1",
    "user": "SELECT user_id FROM tasks WHERE user_id IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT $1",
}
_ROUTES: Final = {
    "/v1/tasks/{task}": "task",
    "/v1/agents/{agent}": "agent",
    "/v1/rounds/{round}": "round",
    "/v1/rounds/{round}/votes": "round",
    "/v1/agents/{agent}/tasks": "agent",
    "/v1/users/{user}/tasks": "user",
    "/v1/agents": "",
    "/v1/leaderboards/daily": "",
    "/v1/tasks": "",
    "/v1/tasks/{task}/events": "task",
}


async def routes(place: Place, rate: float, seconds: float, preload: int) -> Finding:
    """Read each route at a rate, by Zipf's law among 500 entities, nothing being written meanwhile.

    *Cached*: everything has been read once before; what no cache holds (`/v1/tasks`, events) comes from
    PostgreSQL all the same. *Not cached*: by an API process whose Redis is not there.
    """
    await place.empty()
    figures: dict[str, float] = {}
    answered = True
    async with Processes(place.urls.environment(), place.folder, Load(1).export) as processes:
        for name in ("worker", "updater", "api"):
            processes.start(name)
        processes.start("api", "api-uncached", REDIS_URL=_NOBODY)
        await processes.ready("worker", "updater", "api", "api-uncached")
        await openloop.store(place, processes, preload)
        ids = {
            name: [row[0] for row in await place.database.fetch(sql, _MOST_PATHS)]
            for name, sql in _IDS.items()
        }
        for name, base in (("cached", "api"), ("not cached", "api-uncached")):
            for route, entity in _ROUTES.items():
                paths = [route.format(**{entity: each}) for each in ids[entity]] if entity else [route]
                found, good = await _measure(processes.bases[base], paths, rate, seconds)
                figures |= {f"{route} {name}, {which}": value for which, value in found.items()}
                answered = answered and good
    return Finding(figures, {"every read was answered": answered})


async def _measure(base: str, paths: list[str], rate: float, seconds: float) -> tuple[dict[str, float], bool]:
    population: Any = Population(Random(1), {"paths": (1.0, paths)})
    reader = Reader(base)
    try:
        await reader.warm(paths)
        reads = await reader.run(population.path, rate, seconds + _WARM_UP, _WARM_UP)
    finally:
        await reader.close()
    times = reads.latency.milliseconds("ms")
    return {"p50 ms": round(times["ms.p50"], 3), "p99 ms": round(times["ms.p99"], 3)}, reads.failed == 0
