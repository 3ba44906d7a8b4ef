"""A few readers of the HTTP API, with a taste for the popular: what caches live on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx

LEADERBOARD: Final = "/v1/leaderboards/daily"
READERS: Final = 4


@dataclass(slots=True)
class Known:
    """Entities that readers may ask for, in the order in which they became known."""

    tasks: list[str] = field(default_factory=list)
    rounds: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reads:
    """What the readers saw. `caches`: values of `X-Cache`; `seconds`: duration of each answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def hit_ratio(self) -> float | None:
        known = self.caches["hit"] + self.caches["miss"]
        return self.caches["hit"] / known if known else None


async def read_along(base: str, known: Known, reads: Reads, *, rate: float, seed: int) -> None:
    """Send GETs at `rate` per second until cancelled, most of them for few entities (Zipf, exponent 1)."""
    async with (
        httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(READERS):
            group.create_task(_reader(client, known, reads, READERS / rate, Random(seed + number)))


async def _reader(client: httpx.AsyncClient, known: Known, reads: Reads, pause: float, rng: Random) -> None:
    while True:
        await asyncio.sleep(rng.expovariate(1 / pause))
        path = _choose(known, rng)
        if path is None:
            continue
        begin = time.perf_counter()
        try:
            answer = await client.get(path)
        except httpx.HTTPError:
            reads.failures += 1
            continue
        reads.seconds.append(time.perf_counter() - begin)
        reads.statuses[answer.status_code] += 1
        if answer.status_code == httpx.codes.OK:
            reads.caches[answer.headers.get("x-cache", "none").lower()] += 1


def _choose(known: Known, rng: Random) -> str | None:
    kind = rng.random()
    if kind < 0.05:
        return LEADERBOARD
    if kind < 0.60:
        return _popular("/v1/tasks/", known.tasks, rng)
    if kind < 0.85:
        return _popular("/v1/rounds/", known.rounds, rng)
    return _popular("/v1/agents/", known.agents, rng)


def _popular(prefix: str, ids: list[str], rng: Random) -> str | None:
    """The n-th of the known is asked for about 1/n as often as the first."""
    return prefix + ids[int(len(ids) ** rng.random()) - 1] if ids else None
