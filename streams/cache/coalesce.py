"""Work that many callers want at once, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Coalescer(Generic[T]):
    """Callers of one key share one run of the work, if it *starts* after the last of them arrived.

    Sharing work that is under way already would hand out what it read before the caller came. At most
    one run per key is under way, and one waits for it.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, ours or that of a caller who came just before; raises what it raises."""
        task = self._next.get(key)
        if task is None:
            task = asyncio.create_task(self._run(key, self._running.get(key), work))
            task.add_done_callback(_retrieve)
            self._next[key] = task
        return await asyncio.shield(task)  # one caller who gives up must not take the others' result along

    async def close(self) -> None:
        tasks = [*self._running.values(), *self._next.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running.clear()
        self._next.clear()

    async def _run(
        self, key: Hashable, before: asyncio.Task[T] | None, work: Callable[[], Awaitable[T]]
    ) -> T:
        if before is not None:
            await asyncio.wait({before})
        task = self._running[key] = self._next.pop(key)
        try:
            return await work()
        finally:
            if self._running.get(key) is task:
                del self._running[key]


def _retrieve(task: asyncio.Task[T]) -> None:
    """Keeps asyncio from reporting an error as never retrieved when every caller has left."""
    if not task.cancelled():
        task.exception()
