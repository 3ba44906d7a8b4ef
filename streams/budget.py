"""The memory that message bodies may take in one process, whatever the broker hands out.

Prefetch is counted in messages, so that a queue of large ones could fill any memory. The exact bound is
TCP's: once the bodies that are held reach the limit, the consumers' connection is not read until half of
them are done with. What is under way then waits in the socket's buffers and in the broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Counts the bytes of all bodies that are held: waiting, decoded, being stored.

    Args:
        limit: bytes; exceeded by one received chunk and one message at most.
        hold: stops reading from the broker; may be called again while it is stopped.
        resume: reads on.
    """

    def __init__(self, limit: int, hold: Callable[[], None], resume: Callable[[], None]) -> None:
        self.limit = limit
        self._hold = hold
        self._resume = resume
        self.held = 0
        self.holding_since: float | None = None
        """When reading was stopped, or bytes were last given back since then (monotonic seconds)."""

    @property
    def has_room(self) -> bool:
        return self.held < self.limit

    def take(self, size: int) -> None:
        """A body was received."""
        self.held += size
        if self.held >= self.limit:
            if self.holding_since is None:
                self.holding_since = time.monotonic()
            self._hold()  # again and again: a reconnect makes a connection that is read

    def let_through(self) -> None:
        """Read on whatever is held: what comes will be thrown away."""
        self.holding_since = None
        self._resume()

    def give(self, size: int) -> None:
        """A body is done with."""
        self.held -= size
        if self.holding_since is not None:
            self.holding_since = time.monotonic()
            if self.held <= self.limit // 2:
                self.holding_since = None
                self._resume()
