"""Simulates a worker's batches: how late are commits at a load, and how many workers keep them early?

A discrete-event model of what `streams/intake.py` does. Events arrive at random; a batch closes when its
first event has waited for `linger` or `size` are there; a lane takes it. The lanes of a worker share one core
(its event loop), then each waits for PostgreSQL. Workers share nothing but the queues, so one is simulated,
with its share.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final

SHARES: Final = (0.60, 0.36, 0.04)
"""Of tasks, votes and agents in the events of `streams bench`."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: on the worker's core for a batch and for an event, then waiting for PostgreSQL."""

    core_batch: float
    core_event: float
    wait_batch: float
    wait_event: float


@dataclass(frozen=True, slots=True)
class Lateness:
    """From an event's arrival to its commit (ms), and the share of time that the core is busy."""

    p50: float
    p99: float
    busy: float


class _Queue:
    def __init__(self, lanes: int) -> None:
        self.waiting: deque[float] = deque()
        self.free = lanes
        self.ripe = False


def simulate(
    rate: float, costs: Costs, *, size: int = 500, linger: float = 0.010, lanes: int = 3, events: int = 60_000
) -> Lateness:
    """One worker at `rate` events a second, from empty; the first tenth is left out of the figures."""
    rng, number = Random(1), count()
    queues = [_Queue(lanes) for _ in SHARES]
    agenda: list[tuple[float, int, str, int, list[float]]] = []
    late: list[tuple[float, float]] = []
    core_free, core_used, now, arrived = 0.0, 0.0, 0.0, 0
    for index, share in enumerate(SHARES):
        heapq.heappush(agenda, (rng.expovariate(rate * share), next(number), "arrival", index, []))
    while agenda:
        now, _, what, index, batch = heapq.heappop(agenda)
        queue = queues[index]
        if what == "arrival":
            arrived += 1
            queue.waiting.append(now)
            if len(queue.waiting) == 1:
                heapq.heappush(agenda, (now + linger, next(number), "linger", index, []))
            if arrived < events:
                due = now + rng.expovariate(rate * SHARES[index])
                heapq.heappush(agenda, (due, next(number), "arrival", index, []))
        elif what == "computed":
            done = now + rng.gammavariate(4, costs.wait_batch / 4) + costs.wait_event * len(batch)
            heapq.heappush(agenda, (done, next(number), "committed", index, batch))
        elif what == "committed":
            queue.free += 1
            late += [(at, now - at) for at in batch]
        while queue.free and queue.waiting:
            overdue = now >= queue.waiting[0] + linger - 1e-9
            if not overdue and len(queue.waiting) < size:
                heapq.heappush(agenda, (queue.waiting[0] + linger, next(number), "linger", index, []))
                break
            taken = [queue.waiting.popleft() for _ in range(min(size, len(queue.waiting)))]
            queue.free -= 1
            work = costs.core_batch + costs.core_event * len(taken)
            core_free, core_used = max(core_free, now) + work, core_used + work
            heapq.heappush(agenda, (core_free, next(number), "computed", index, taken))
    late.sort()
    steady = sorted(delay for _, delay in late[len(late) // 10 :])
    return Lateness(
        1000 * steady[len(steady) // 2], 1000 * steady[round(0.99 * (len(steady) - 1))], core_used / now
    )
