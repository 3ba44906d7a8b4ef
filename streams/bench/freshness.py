"""When caches were told: an ear on the exchange where updaters say what they have applied to Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from schemas.invalidations import CacheApplied


@dataclass(slots=True)
class Freshness:
    """Seconds since 1970 at which the last invalidation of a batch was known to be applied, by batch."""

    applied: dict[UUID, float] = field(default_factory=dict)
    keys: dict[str, float] = field(default_factory=dict)
    """The same of each key: when it was last invalidated."""

    @asynccontextmanager
    async def listening(self, channel: AbstractChannel) -> AsyncIterator[None]:
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(CacheApplied.exchange, "#")
        tag = await queue.consume(self._heard, no_ack=True)
        try:
            yield
        finally:
            await queue.cancel(tag)

    async def _heard(self, message: AbstractIncomingMessage) -> None:
        now = time.time()
        data = orjson.loads(message.body)["data"]
        self.keys.update(dict.fromkeys(data["keys"], now))
        for cause in data["causes"]:
            # An invalidation's id is its batch's, a colon and a number.
            batch = cause.partition(":")[0]
            try:
                self.applied[UUID(batch)] = now
            except ValueError:
                continue  # somebody else's
