"""The transactions of one process, of all its queues: who is alone may have more of them.

Queues that all have work share the cores as they are: one large transaction each. A queue whose neighbours
rest would leave cores idle that way, since a lane waits for PostgreSQL and PostgreSQL for the lane.
"""

from __future__ import annotations

from collections.abc import Callable


class Seats:
    """Counts the transactions in flight, and tells queues when one has ended."""

    def __init__(self) -> None:
        self._taken = 0
        self._watchers: list[Callable[[], None]] = []

    def watch(self, left: Callable[[], None]) -> None:
        """Call `left` whenever a transaction has ended."""
        self._watchers.append(left)

    def is_alone(self, own: int) -> bool:
        """Whether all transactions in flight are the `own` ones of whoever asks."""
        return self._taken == own

    def take(self) -> None:
        self._taken += 1

    def leave(self) -> None:
        self._taken -= 1
        for left in self._watchers:
            left()
