"""Bounded concurrency: so many at work, so many waiting, the rest refused at once."""

from __future__ import annotations

import asyncio
from types import TracebackType

from schemas.errors import StreamsError


class Busy(StreamsError):
    """Too many are at work or waiting already; worth trying again in a moment."""


class Gate:
    """An async context that at most `limit` tasks are inside of.

    Args:
        waiting: how many more may wait to get in.
        seconds: how long each may wait.
    """

    def __init__(self, limit: int, *, waiting: int = 32, seconds: float = 1.0) -> None:
        self._room = asyncio.Semaphore(limit)
        self._places = waiting
        self._seconds = seconds
        self._waiting = 0

    async def __aenter__(self) -> None:
        """Get in.

        Raises:
            Busy: the queue is full, or the wait was in vain.
        """
        if self._waiting >= self._places and self._room.locked():
            raise Busy("too many requests of this kind are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._room.acquire()
        except TimeoutError:
            raise Busy("too many requests of this kind are at work") from None
        finally:
            self._waiting -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.release()
