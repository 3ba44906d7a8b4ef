"""Acknowledgement by low-water mark: one `basic.ack(multiple)` for all that is done in a row.

Batches finish out of order, and `ack(multiple)` also acknowledges everything before its tag: so only
the run of settled tags at the front may be acknowledged, and never a tag twice (the broker closes the
channel for that). Tags belong to one incarnation of a channel; after a reconnect they start again at
1, so each incarnation has a tracker of its own and what was settled for an old one goes nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable


class AckTracker:
    """The delivery tags of one channel incarnation, in the order of delivery.

    Args:
        ack: sends `basic.ack(tag, multiple=True)` on that very channel incarnation.
    """

    def __init__(self, ack: Callable[[int], Awaitable[None]]) -> None:
        self._ack = ack
        self._open: deque[int] = deque()
        self._settled: set[int] = set()
        self.closed = False

    def __len__(self) -> int:
        """Messages delivered and not acknowledged yet."""
        return len(self._open)

    @property
    def oldest(self) -> int | None:
        """The first tag that is not acknowledged; it changes as long as there is progress."""
        return self._open[0] if self._open else None

    def received(self, tag: int) -> None:
        """Note a delivery. Tags arrive in ascending order."""
        self._open.append(tag)

    def settled(self, tag: int) -> None:
        """Note that a message is done with: stored, or confirmed in quarantine."""
        self._settled.add(tag)

    async def flush(self) -> int:
        """Acknowledge the settled run at the front; returns how many messages that were."""
        count, mark = 0, 0
        while self._open and self._open[0] in self._settled:
            mark = self._open.popleft()
            self._settled.discard(mark)
            count += 1
        if count and not self.closed:
            await self._ack(mark)
        return count
