"""What was invalidated is loaded again before its next reader comes, where that is worth a load; so is what
is new, before its first.

A process hears of an invalidation when Redis has it. For each key it then weighs how often it is read against
how often it is lost (interest.py). What is worth it waits (waiting.py) for a place in the budget, the most
useful first, and is loaded with others by one statement (together.py). Processes that want the same key come
to the same lease: one of them loads, the others find its value in Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter

from streams.cache.found import Group, LoadMany, Want
from streams.cache.local import Local, Slot
from streams.cache.together import Filled, Result
from streams.cache.waiting import Job, Rate, Waiting
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

TOGETHER: Final = 32
"""Keys of a statement at most: requests need the connections, too, and in a cluster each key is a command."""

_WORKERS: Final = 2
_LEAST_WORTH: Final = 0.05
"""Twenty loads for one reader who does not wait: a key in company costs a small part of one alone."""
_LEAST_ALONE: Final = 0.5
_LUKEWARM: Final = 0.1
_PATIENCE: Final = 0.25
"""Seconds that a key worth less waits at most: others come, or it is invalidated again meanwhile."""
_PAYS: Final = 0.02
"""Share of what was read ahead that must be read for reading ahead to have all of the budget."""
_PROBE: Final = 0.02
"""Share of the budget that it has in any case: to find out when it begins to pay."""
_AHEAD_TTL: Final = 300
_FIRST_PAUSE: Final = 0.005
_TRIES: Final = 6
_RESULTS: Final = {
    Filled.LOADED: "done",
    Filled.FOUND: "shared",
    Filled.OVERTAKEN: "overtaken",
    Filled.NOTHING: "nothing",
}


@dataclass(frozen=True, slots=True)
class Refreshing:
    """What a process may load that nobody is waiting for.

    Args:
        keys_per_second: of both kinds together; as many may wait. 0: none.
        ahead_seconds: how old a thing may be to be read ahead; 0: nothing is.
    """

    keys_per_second: float = 1000.0
    ahead_seconds: float = 30.0


@dataclass(slots=True)
class _Lane:
    """Jobs of a kind, and who works on them."""

    waiting: Waiting
    run: Callable[[Sequence[Job]], Awaitable[None]]
    at_once: int
    workers: set[asyncio.Task[None]] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None


class Refresher:
    """Loads what was dropped, and what is new.

    Args:
        fill: fills many keys and holds them in `local`.
        fetch: finds or loads one value, and holds it in `local` unless it was invalidated meanwhile.
        is_usable: whether memory, Redis and database are there, as far as is known.
        now: seconds since 1970.
    """

    def __init__(
        self,
        local: Local,
        fill: Callable[[Sequence[Want], LoadMany], Awaitable[Result]],
        fetch: Callable[[Want], Awaitable[object]],
        metrics: Metrics,
        bounds: Refreshing,
        *,
        is_usable: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._local = local
        self._fill = fill
        self._fetch = fetch
        self._refreshes = metrics.cache_refreshes
        self._read_ahead = metrics.cache_read_ahead
        self._is_usable = is_usable
        self._clock = clock
        self._now = now
        self._ahead_seconds = bounds.ahead_seconds
        self._rate = Rate(bounds.keys_per_second, clock)
        self._ahead_rate = Rate(bounds.keys_per_second, clock)
        self._groups: dict[str, Group] = {}
        most = max(1, int(bounds.keys_per_second))
        self._together = _Lane(Waiting(most, self._shed), self._load_together, TOGETHER)
        self._alone = _Lane(Waiting(most, self._shed), self._load_alone, 1)
        metrics.cache_waiting.set_function(lambda: len(self._together.waiting) + len(self._alone.waiting))

    def load_together(self, groups: Iterable[Group]) -> None:
        """Load keys of these groups with others of the same, and read ahead what is new among them."""
        self._groups |= {group.prefix: group for group in groups}

    def offer(self, keys: Sequence[str], dropped: Sequence[Slot]) -> None:
        """These keys were invalidated, and this is what was dropped from memory for it or for their tags."""
        held = set()
        for slot in dropped:
            held.add(slot.want.key)
            self._offer_held(slot)
        refused = sum(self._refuses(key) for key in keys if key not in held)
        if refused:
            self._read_ahead.labels("shed").inc(refused)
        for lane in (self._together, self._alone):
            self._wake(lane)

    def clear(self) -> None:
        """Forget what waits."""
        for lane in (self._together, self._alone):
            lane.waiting.clear()

    async def close(self) -> None:
        self.clear()
        workers = [*self._together.workers, *self._alone.workers]
        for lane in (self._together, self._alone):
            if lane.timer is not None:
                lane.timer.cancel()
        for worker in workers:
            worker.cancel()
        if workers:
            await asyncio.wait(workers)

    def _group(self, key: str) -> Group | None:
        return self._groups.get(key[: key.find(":")])

    def _offer_held(self, slot: Slot) -> None:
        want, worth = slot.want, slot.interest.worth
        group = self._group(want.key)
        if group is None:
            if worth >= _LEAST_ALONE:
                self._alone.waiting.add(Job(want, worth, self._clock()))
        elif worth:
            self._offer_read(want.key, group, worth, None if want.ahead else want)
        elif want.ahead:
            self._offer_new(want.key, group, again=True)

    def _refuses(self, key: str) -> bool:
        """Offer what is not held; whether it is new and there is no room for it."""
        group = self._group(key)
        if group is None:
            return False
        interest = self._local.interest(key)
        if interest is None:
            return self._offer_new(key, group, again=False) is False
        self._offer_read(key, group, interest.worth, None)
        return False

    def _offer_read(self, key: str, group: Group, worth: float, want: Want | None) -> None:
        if worth >= _LEAST_WORTH:
            due = self._due(patient=worth < _LUKEWARM)
            self._together.waiting.add(Job(want or _want(key, group), worth, due, group))

    def _offer_new(self, key: str, group: Group, *, again: bool) -> bool | None:
        """Whether there was room for it; None for what is not new."""
        born = group.born(key) if self._ahead_seconds else None
        if born is None or abs(self._now() - born) > self._ahead_seconds:
            return None
        share = self._local.payoff.share
        if key not in self._together.waiting and not self._ahead_rate.take(
            1, min(1.0, max(_PROBE, share / _PAYS))
        ):
            return False
        due = self._due(patient=share < (_LUKEWARM if again else _PAYS))
        self._together.waiting.add(Job(_want(key, group, ahead=True), share, due, group))
        return True

    def _due(self, *, patient: bool) -> float:
        """Now, or at the next of the moments at which all that is not urgent is loaded together."""
        now = self._clock()
        return (now // _PATIENCE + 1) * _PATIENCE if patient else now

    def _shed(self, job: Job) -> None:
        self._counter(job).labels("shed").inc()

    def _counter(self, job: Job) -> Counter:
        return self._read_ahead if job.want.ahead else self._refreshes

    def _wake(self, lane: _Lane) -> None:
        if lane.waiting and len(lane.workers) < _WORKERS:
            worker = asyncio.create_task(self._work(lane))
            lane.workers.add(worker)
            worker.add_done_callback(lane.workers.discard)

    async def _work(self, lane: _Lane) -> None:
        while jobs := self._next(lane):
            try:
                await lane.run(jobs)
            except Exception as error:  # noqa: BLE001 - whatever a load raises is its next caller's to see
                for job in jobs:
                    self._counter(job).labels("failed").inc()
                log.debug("a refresh failed", error=type(error).__name__)

    def _next(self, lane: _Lane) -> list[Job]:
        """What is to be loaded now; if nothing is, the lane is woken when something will be."""
        if not self._is_usable():
            self.clear()
            return []
        now = self._clock()
        while lane.waiting:
            wanted = min(lane.at_once, lane.waiting.due(now))
            if not wanted:
                return self._wake_later(lane, lane.waiting.next_due() - now)
            room = self._rate.take(wanted)
            if not room:  # not a few at once: what is scarce is best used by full statements
                return self._wake_later(lane, self._rate.wait(wanted))
            jobs = [job for job in lane.waiting.pick(room, now) if not self._local.holds(job.want.key)]
            if jobs:
                return jobs
        return []

    def _wake_later(self, lane: _Lane, seconds: float) -> list[Job]:
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.001, seconds)
        if lane.timer is None or lane.timer.cancelled() or not loop.time() < lane.timer.when() <= when:
            if lane.timer is not None:
                lane.timer.cancel()
            lane.timer = loop.call_at(when, self._wake, lane)
        return []

    async def _load_together(self, jobs: Sequence[Job]) -> None:
        of: dict[str, list[Job]] = {}
        for job in jobs:
            assert job.group is not None, "the lane's jobs have groups"
            of.setdefault(job.group.prefix, []).append(job)
        for prefix, those in of.items():
            result = await self._fill([job.want for job in those], self._groups[prefix].load)
            for job in those:
                self._note(job, result.outcomes[job.want.key])

    def _note(self, job: Job, filled: Filled) -> None:
        """What is overtaken is offered again by what overtook it, as soon as that is heard."""
        if filled is not Filled.BUSY:
            self._counter(job).labels(_RESULTS[filled]).inc()
        elif self._local.holds(job.want.key):
            self._counter(job).labels("shared").inc()
        elif job.tries < _TRIES:
            job.due = self._clock() + _FIRST_PAUSE * 2**job.tries
            job.tries += 1
            self._together.waiting.add(job)
        else:
            self._counter(job).labels("failed").inc()

    async def _load_alone(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._fetch(job.want)
            if not self._local.is_open or self._local.holds(job.want.key):
                self._refreshes.labels("done").inc()
            elif job.tries < _TRIES:  # overtaken by what named only a tag, which does not lead back to it
                job.tries += 1
                self._alone.waiting.add(job)
            else:
                self._refreshes.labels("overtaken").inc()


def _want(key: str, group: Group, *, ahead: bool = False) -> Want:
    ttl = partial(_ahead_ttl, group) if ahead else group.ttl
    return Want(key, partial(_load_one, key, group), ttl, (), strict=False, ahead=ahead)


def _ahead_ttl(group: Group, value: bytes) -> int:
    return min(group.ttl(value), _AHEAD_TTL)


async def _load_one(key: str, group: Group) -> bytes | None:
    return (await group.load([key])).get(key)
