"""Gauges of a worker or an updater that are read when somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

import structlog

from streams.budget import Budget
from streams.health import Health
from streams.intake import Intake
from streams.lifecycle import UNREACHABLE
from streams.outbox import Outbox
from streams.publisher import Publisher
from streams.telemetry import Metrics
from streams.topology import QUARANTINE

log = structlog.get_logger(__name__)

_PATIENCE = 1.0  # Prometheus gives up after ten: a server that hangs must not take our own numbers along


class Gauges:
    """Asks the parts of a process, and the servers, for what has no event of its own.

    `outbox` is set once there is one.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        budget: Budget,
        intakes: Mapping[str, Intake],
        publisher: Publisher,
    ) -> None:
        self._metrics = metrics
        self._budget = budget
        self._intakes = intakes
        self._publisher = publisher
        self.outbox: Outbox | None = None
        metrics.ready.set_function(lambda: float(health.ready))

    async def refresh(self) -> None:
        """Set them all. What a server does not tell within a second keeps its last value."""
        self._metrics.held_bytes.set(self._budget.held)
        for queue, intake in self._intakes.items():
            intake.tell_metrics()
            in_flight = intake.undecoded + intake.waiting + intake.running
            self._metrics.queue(queue).in_flight.set(in_flight)
        asked = [] if self._publisher.is_closed else [_bounded(self._count_letters(), "RabbitMQ")]
        if self.outbox is not None:
            asked.append(_bounded(self.outbox.pending(), "PostgreSQL"))
        await asyncio.gather(*asked)

    async def _count_letters(self) -> None:
        letters, _consumers = await self._publisher.count(QUARANTINE)
        self._metrics.quarantine_letters.set(letters)


async def _bounded(question: Awaitable[object], server: str) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await question
    except UNREACHABLE as error:
        log.warning("metrics without a server's part", server=server, error=type(error).__name__)
