"""What can be seen from outside while the service works: invalidations, caches told, rounds decided."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aio_pika
import orjson
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from schemas.errors import ConfigurationError


@dataclass(slots=True)
class Observer:
    """Listens on exclusive queues that vanish with the connection; takes nothing from anybody.

    `asked`: ids of invalidation events published by the workers, `<batch_id>:<n>`;
    `applied`: when each was heard of on the cache bus, in seconds since 1970.
    """

    asked: dict[str, float] = field(default_factory=dict)
    applied: dict[str, float] = field(default_factory=dict)
    decided: list[dict[str, Any]] = field(default_factory=list)
    last_heard: float = 0.0

    async def listen(self, channel: AbstractChannel) -> None:
        """Bind and start consuming.

        Raises:
            ConfigurationError: an exchange is missing, so no worker has ever declared the topology.
        """
        await channel.set_qos(prefetch_count=1000)
        for exchange, key, take in (
            ("invalidations", "cache.invalidated", self._asked),
            ("cache-bus", "#", self._applied),
            ("votes", "round.decided", self._decided),
        ):
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            try:
                await queue.bind(exchange, key)
            except aio_pika.exceptions.AMQPError as error:
                raise ConfigurationError(f"cannot listen to the exchange {exchange!r}: {error}") from error
            await queue.consume(take, no_ack=True)

    def fresh_at(self, batch_id: UUID) -> float | None:
        """When the last invalidation of a batch was in effect; None: it asked for none, or not yet."""
        times = []
        for number in range(10_000):
            seen = self.applied.get(f"{batch_id}:{number}")
            if seen is None:
                break
            times.append(seen)
        return max(times, default=None)

    def outstanding(self) -> int:
        """Invalidations asked for and not known to be in effect."""
        return sum(1 for cause in self.asked if cause not in self.applied)

    async def _asked(self, message: AbstractIncomingMessage) -> None:
        self.last_heard = time.time()
        for event in _events(message):
            self.asked[event["id"]] = self.last_heard

    async def _applied(self, message: AbstractIncomingMessage) -> None:
        self.last_heard = time.time()
        for event in _events(message):
            for cause in event["data"].get("causes", ()):
                self.applied.setdefault(cause, self.last_heard)

    async def _decided(self, message: AbstractIncomingMessage) -> None:
        self.last_heard = time.time()
        for event in _events(message):
            self.decided.append({"id": event["id"], **event["data"]})


def _events(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    body = orjson.loads(message.body)
    return body if isinstance(body, list) else [body]
