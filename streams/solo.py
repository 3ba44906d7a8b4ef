"""Attempts side by side, or one alone in the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Solo:
    """What runs `beside` others shares the process with them; what runs `alone` does not.

    First come, first served: whoever wants to be alone waits for those who are at work, and those who come
    later wait for it. Hold it for as long as one attempt takes, never while waiting for a server.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._working = 0
        self.has_worked = False
        """Whether an attempt has ended well: this process can do its work."""

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Work beside others."""
        async with self._turn:  # free unless somebody is alone, or waits to be
            self._working += 1
            self._nobody.clear()
        try:
            yield
            self.has_worked = True
        finally:
            self._working -= 1
            if not self._working:
                self._nobody.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work while nobody else does."""
        async with self._turn:
            await self._nobody.wait()
            yield
