"""A switch that keeps a dead server from costing every request a timeout."""

from __future__ import annotations

import time
from collections.abc import Callable


class Circuit:
    """Open after a failure; lets one attempt through every `hold` seconds until one succeeds.

    Args:
        hold: seconds between attempts while open.
        clock: monotonic seconds.
    """

    def __init__(self, *, hold: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._clock = clock
        self._retry_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._retry_at is not None

    def allows(self) -> bool:
        """Whether to try now; while open, an attempt that is allowed is the only one for `hold` seconds."""
        if self._retry_at is None:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        self._retry_at = now + self._hold
        return True

    def succeeded(self) -> None:
        self._retry_at = None

    def failed(self) -> None:
        self._retry_at = self._clock() + self._hold
