"""Hot keys are loaded again as soon as they were invalidated, before the next reader comes.

What was read from this process's memory since it was last loaded is worth that; how often is carried over,
halved, so that a key that is invalidated more often than read is soon left alone. Processes that hold the
same key come to the same lease: one of them loads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from streams.cache.found import Want
from streams.cache.local import Local, Slot
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

_WORKERS: Final = 4
_MOST_WAITING: Final = 1_000
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class _Job:
    want: Want
    hits: int


class Refresher:
    """Loads what was dropped, a few at a time; the oldest of too many is forgotten.

    Args:
        fetch: finds or loads a value, and holds it in `local` unless it was invalidated meanwhile.
    """

    def __init__(
        self,
        local: Local,
        fetch: Callable[[Want], Awaitable[object]],
        metrics: Metrics,
        *,
        workers: int = _WORKERS,
    ) -> None:
        self._local = local
        self._fetch = fetch
        self._metrics = metrics
        self._most = workers
        self._waiting: OrderedDict[str, _Job] = OrderedDict()
        self._workers: set[asyncio.Task[None]] = set()

    def offer(self, dropped: Iterable[Slot]) -> None:
        """Load those of them again that were hit."""
        for slot in dropped:
            if slot.hits:
                self._waiting[slot.want.key] = _Job(slot.want, slot.hits)
                if len(self._waiting) > _MOST_WAITING:
                    self._waiting.popitem(last=False)
        while self._waiting and len(self._workers) < min(self._most, len(self._waiting)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        if self._workers:
            await asyncio.wait(self._workers)

    async def _work(self) -> None:
        while self._waiting:
            _, job = self._waiting.popitem(last=False)
            try:
                await self._refresh(job)
            except Exception as error:  # noqa: BLE001 - whatever a load raises is its next caller's to see
                self._metrics.cache_refreshes.labels("failed").inc()
                log.debug("a refresh failed", error=type(error).__name__)

    async def _refresh(self, job: _Job) -> None:
        key = job.want.key
        for _ in range(_ATTEMPTS):
            await self._fetch(job.want)
            if not self._local.is_open:
                return
            if self._local.holds(key):
                self._local.remember(key, job.hits // 2)
                self._metrics.cache_refreshes.labels("done").inc()
                return
        self._metrics.cache_refreshes.labels("overtaken").inc()
