"""How much a producer may hold: a bound on events and on bytes, with callers waiting in line."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """Counts what is in flight; whoever finds no room waits, first come, first served."""

    def __init__(self, events: int, size: int) -> None:
        self._max_events = events
        self._max_bytes = size
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.events = 0
        self.bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    def try_take(self, size: int) -> bool:
        """Take room for one event, unless there is none or others wait for it."""
        if self._line or not self._fits(size):
            return False
        self.events += 1
        self.bytes += size
        return True

    async def take(self, size: int) -> None:
        """Take room for one event as soon as it is this caller's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(1, size)
            else:
                self._serve()  # the next in line may fit where this one did not
            raise

    def give_back(self, events: int, size: int) -> None:
        self.events -= events
        self.bytes -= size
        if self._line:
            self._serve()

    def _fits(self, size: int) -> bool:
        if self.events == 0:
            return True  # alone, an event of any size may go
        return self.events < self._max_events and self.bytes + size <= self._max_bytes

    def _serve(self) -> None:
        while self._line:
            size, turn = self._line[0]
            if turn.cancelled():
                self._line.popleft()
            elif self._fits(size):
                self._line.popleft()
                self.events += 1
                self.bytes += size
                turn.set_result(None)
            else:
                return
