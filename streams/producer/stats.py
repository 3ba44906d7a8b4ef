"""What a producer has done, in numbers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_LATENCIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot. Counts are of events, except `messages` and `reconnects`."""

    accepted: int
    confirmed: int
    failed: int
    retried: int
    """Sent again: the connection was lost before the confirm, or the broker said no for now."""
    messages: int
    """AMQP messages made; fewer than events where they travel in batches."""
    in_flight: int
    """Accepted, neither confirmed nor failed."""
    in_flight_bytes: int
    waiting_callers: int
    """Calls of `send` and `enqueue` that wait for room."""
    reconnects: int
    state: str
    """"connected", or what keeps events from being sent."""
    latency_p50: float | None
    """Seconds from acceptance to confirm, over the last 1,000 messages; None before the first."""
    latency_p99: float | None


@dataclass(slots=True)
class Counters:
    """What is counted on the way."""

    accepted: int = 0
    confirmed: int = 0
    failed: int = 0
    retried: int = 0
    messages: int = 0
    reconnects: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def quantile(self, share: float) -> float | None:
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
