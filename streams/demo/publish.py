"""Sends the planned messages at an even rate, persistent, mandatory and confirmed, and keeps the ledger.

Plain aio-pika and not our own client: the demo publishes as a team without our library would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import AMQPError

from schemas.errors import StreamsError
from streams.demo.ledger import Ledger, Sent
from streams.demo.traffic import Message

CONFIRMS_IN_FLIGHT: Final = 400
ATTEMPTS: Final = 5
CONFIRM_SECONDS: Final = 30.0


class PublishFailed(StreamsError):
    """A message was not confirmed after several attempts."""


@dataclass(slots=True)
class Counts:
    """What the publisher has done so far, in events, repeats and faults included."""

    sent: int = 0
    confirmed: int = 0
    messages: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    modes: dict[str, int] = field(default_factory=dict)


class Publisher:
    """Sends messages and writes each into the ledger once the broker has confirmed it."""

    def __init__(self, channel: AbstractChannel, ledger: Ledger, rate: float) -> None:
        self._channel = channel
        self._ledger = ledger
        self._rate = rate
        self._exchanges: dict[str, AbstractExchange] = {}
        self.counts = Counts()

    async def send_all(self, messages: Iterable[Message]) -> None:
        """Send every message when its turn has come; return when all are confirmed.

        Raises:
            PublishFailed: the broker would not take one.
        """
        slots = asyncio.Semaphore(CONFIRMS_IN_FLIGHT)
        self.counts.started_at = time.time()
        start = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    ahead = start + message.position / self._rate - time.perf_counter()
                    if ahead > 0.001:
                        await asyncio.sleep(ahead)
                    await slots.acquire()
                    task = group.create_task(self._send(message))
                    task.add_done_callback(lambda _: slots.release())
        except* StreamsError as failed:
            raise failed.exceptions[0] from None
        finally:
            self.counts.ended_at = time.time()

    async def _send(self, message: Message) -> None:
        self.counts.messages += 1
        self.counts.sent += len(message.events)
        self.counts.modes[message.mode] = self.counts.modes.get(message.mode, 0) + len(message.events)
        published_at = time.time()
        await self._confirmed(message)
        confirmed_at = time.time()
        self.counts.confirmed += len(message.events)
        self._ledger.record(
            Sent(
                id=planned.event.id,
                source=planned.event.source,
                type=planned.event.type,
                time=planned.event.time,
                data=planned.event.data,
                mode=message.mode,
                published_at=published_at,
                confirmed_at=confirmed_at,
                refusal=planned.reason,
            )
            for planned in message.events
        )

    async def _confirmed(self, message: Message) -> None:
        """A lost connection leaves the outcome unknown: send again, a repeat does no harm."""
        for attempt in range(ATTEMPTS):
            try:
                exchange = await self._exchange(message.exchange)
                await exchange.publish(
                    _amqp(message), message.routing_key, mandatory=True, timeout=CONFIRM_SECONDS
                )
            except (AMQPError, ConnectionError, TimeoutError, RuntimeError) as error:
                if attempt == ATTEMPTS - 1:
                    raise PublishFailed(
                        f"the broker did not confirm a message to {message.exchange!r}: {error!r}"
                    ) from error
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return

    async def _exchange(self, name: str) -> AbstractExchange:
        if name not in self._exchanges:
            self._exchanges[name] = await self._channel.get_exchange(name)
        return self._exchanges[name]


async def open_channel(connection: aio_pika.abc.AbstractConnection) -> AbstractChannel:
    """A channel with publisher confirms, on which an unroutable message raises."""
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


def _amqp(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        content_type=message.content_type,
        headers=dict(message.headers),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        type=message.type,
        app_id=message.app_id,
        timestamp=message.timestamp,
    )
