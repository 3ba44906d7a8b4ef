"""Gathers accepted events into arrays: one array per route, closed by size, bytes or linger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.errors import ConfigurationError
from streams.producer.message import Parcel, Route


@dataclass(frozen=True, slots=True)
class Batching:
    """How events travel together, as CloudEvents batches: one AMQP message, one confirm, many events.

    A batch is closed at `size` events, before it would exceed `bytes` of JSON, or `linger` seconds after
    its first event, whichever comes first. Events of different types do not share one.
    """

    size: int = 100
    bytes: int = 256 * 1024
    linger: float = 0.005

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 5000:
            raise ConfigurationError("a batch must hold 1 to 5000 events: the service refuses larger arrays")
        if self.bytes < 1 or not 0 <= self.linger <= 60:
            raise ConfigurationError(
                "a batch needs a positive number of bytes, and a linger of 0 to 60 seconds"
            )


class _Open:
    """A batch that is being filled."""

    __slots__ = ("alarm", "bytes", "parcels", "started")

    def __init__(self, started: float, alarm: asyncio.TimerHandle) -> None:
        self.parcels: list[Parcel] = []
        self.bytes = 0
        self.started = started
        self.alarm = alarm


class Gatherer:
    """Collects parcels; hands every closed batch to `send` with the time of its first event."""

    def __init__(self, policy: Batching, send: Callable[[Sequence[Parcel], float], None]) -> None:
        self._policy = policy
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._open: dict[Route, _Open] = {}

    def add(self, parcel: Parcel, now: float) -> None:
        route, size = parcel.route, len(parcel.body)
        batch = self._open.get(route)
        if batch is not None and batch.bytes + size > self._policy.bytes:
            self._close(route)
            batch = None
        if batch is None:
            batch = _Open(now, self._loop.call_later(self._policy.linger, self._close, route))
            self._open[route] = batch
        batch.parcels.append(parcel)
        batch.bytes += size
        if len(batch.parcels) >= self._policy.size:
            self._close(route)

    def flush(self) -> None:
        """Close every batch now."""
        for route in list(self._open):
            self._close(route)

    def _close(self, route: Route) -> None:
        batch = self._open.pop(route)
        batch.alarm.cancel()
        self._send(batch.parcels, batch.started)
