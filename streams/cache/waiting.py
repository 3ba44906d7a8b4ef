"""Keys that wait to be loaded again, the most useful first, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Final

from streams.cache.found import Group, Want

_KEPT: Final = 0.75
"""Of too many that wait, the share that stays: so the cost of choosing is spread over many offers."""


@dataclass(slots=True)
class Job:
    """A key to be loaded.

    Args:
        worth: the chance that the load spares a reader the wait.
        due: monotonic seconds; not before then.
        group: what it is loaded together with; None: alone.
    """

    want: Want
    worth: float
    due: float
    group: Group | None = None
    tries: int = 0


class Rate:
    """So many a second, and a tenth of a second's worth at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, each_second: float, clock: Callable[[], float]) -> None:
        self.each_second = each_second
        self._clock = clock
        self._most = max(1.0, each_second / 10)
        self._left = self._most
        self._at = clock()

    def take(self, count: int, share: float = 1.0) -> int:
        """So many of them, or as many as there ever are at once; 0 if they are not there yet.

        Args:
            share: of the rate, since it was last asked.
        """
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self.each_second * share)
        self._at = now
        count = min(count, int(self._most))
        if self._left < count:
            return 0
        self._left -= count
        return count

    def wait(self, count: int) -> float:
        """Seconds until there are so many."""
        return max(0.0, (min(count, self._most) - self._left) / self.each_second)


@dataclass(slots=True)
class Waiting:
    """At most `most` jobs, one for each key; the least useful of too many are shed.

    Args:
        on_shed: told of each.
    """

    most: int
    on_shed: Callable[[Job], None]
    _jobs: dict[str, Job] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    def add(self, job: Job) -> None:
        """Have it wait; who waits already goes on waiting, worth what is known now."""
        there = self._jobs.setdefault(job.want.key, job)
        there.worth = job.worth
        if len(self._jobs) > self.most:
            kept = nlargest(int(self.most * _KEPT), self._jobs.values(), key=_worth)
            before, self._jobs = self._jobs, {one.want.key: one for one in kept}
            for key in before.keys() - self._jobs.keys():
                self.on_shed(before[key])

    def pick(self, count: int, now: float) -> list[Job]:
        """Take out the most useful of those that are due."""
        picked = nlargest(count, (job for job in self._jobs.values() if job.due <= now), key=_worth)
        for job in picked:
            del self._jobs[job.want.key]
        return picked

    def due(self, now: float) -> int:
        """How many are due."""
        return sum(job.due <= now for job in self._jobs.values())

    def next_due(self) -> float:
        """When the next one is due; there must be one."""
        return min(job.due for job in self._jobs.values())

    def clear(self) -> None:
        self._jobs.clear()


def _worth(job: Job) -> float:
    return job.worth
