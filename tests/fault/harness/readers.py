"""Readers of the API while faults happen: they fill the caches that invalidations must empty."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Final

import httpx

from tests.fault.harness.load import Load

_MOST_PATHS: Final = 3_000


class Readers:
    """Ask for tasks, rounds, agents, lists and leaderboards, most often for few and for new ones.

    `asked` are the paths: at rest each must be answered from the caches as from the database.
    """

    def __init__(self, load: Load, rate: float, seed: int = 1) -> None:
        self._load = load
        self._pause = 1 / rate
        self._rng = Random(seed)
        self.asked: set[str] = set()
        self.caches: Counter[str] = Counter()

    async def read(self, base: str) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
            while True:
                await asyncio.sleep(self._rng.expovariate(1 / self._pause))
                path = self._choose()
                if path is None or (path not in self.asked and len(self.asked) >= _MOST_PATHS):
                    continue
                self.asked.add(path)
                try:
                    answer = await client.get(path)
                except httpx.HTTPError:
                    self.caches["no answer"] += 1
                else:
                    self.caches[answer.headers.get("x-cache", "none").lower()] += 1

    def _choose(self) -> str | None:
        load, kind = self._load, self._rng.random()
        if kind < 0.05:
            return f"/v1/leaderboards/{self._rng.choice(('daily', 'weekly', 'monthly', 'all_time'))}"
        if kind < 0.10:
            return "/v1/agents"
        for share, ids, path in (
            (0.45, load.tasks, "/v1/tasks/{}"),
            (0.65, load.rounds, "/v1/rounds/{}"),
            (0.75, load.rounds, "/v1/rounds/{}/votes"),
            (0.85, load.agents, "/v1/agents/{}"),
            (0.93, load.agents, "/v1/agents/{}/tasks"),
            (1.00, load.users, "/v1/users/{}/tasks"),
        ):
            if kind < share:
                return path.format(self._some(ids)) if ids else None
        return None

    def _some(self, ids: list[str]) -> str:
        """Half of the reads go to what is new, since that is what still changes."""
        if self._rng.random() < 0.5:
            return ids[-1 - int(len(ids[-300:]) * self._rng.random())]
        return ids[int(len(ids) ** self._rng.random()) - 1]
