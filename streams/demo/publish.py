"""Sends the planned messages at an even rate, persistent, mandatory and confirmed, and keeps the ledger.

Not our own client: the demo publishes as a team without our library would. It uses the channel beneath
aio-pika's, because that one need not flush the socket after every message: one system call carries many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError
from aiormq.channel import Channel

from schemas.errors import StreamsError
from streams.demo.ledger import Ledger, Sent
from streams.demo.traffic import Message
from streams.lifecycle import first_of_ours

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
    latency: float | None = None
    """Seconds from send to confirm, averaged over about the last hundred messages."""
    modes: dict[str, int] = field(default_factory=dict)


class Publisher:
    """Sends messages and writes each into the ledger once the broker has confirmed it."""

    def __init__(self, channel: AbstractChannel, ledger: Ledger, rate: float) -> None:
        self._channel = channel
        self._ledger = ledger
        self._rate = rate
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
            with first_of_ours():
                async with asyncio.TaskGroup() as group:
                    for message in messages:
                        ahead = start + message.position / self._rate - time.perf_counter()
                        if ahead > 0.001:
                            await asyncio.sleep(ahead)
                        await slots.acquire()
                        task = group.create_task(self._send(message))
                        task.add_done_callback(lambda _: slots.release())
        finally:
            self.counts.ended_at = time.time()

    async def _send(self, message: Message) -> None:
        self.counts.messages += 1
        self.counts.sent += len(message.events)
        mode = str(message.mode)
        self.counts.modes[mode] = self.counts.modes.get(mode, 0) + len(message.events)
        published_at = time.time()
        await self._confirmed(message)
        confirmed_at = time.time()
        self.counts.confirmed += len(message.events)
        latest, average = confirmed_at - published_at, self.counts.latency
        self.counts.latency = latest if average is None else average + (latest - average) / 100
        self._ledger.record(lines_of(message, published_at, confirmed_at))

    async def _confirmed(self, message: Message) -> None:
        """A lost connection leaves the outcome unknown: send again, a repeat does no harm."""
        for attempt in range(ATTEMPTS):
            try:
                channel = cast("Channel", await self._channel.get_underlay_channel())
                await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=_properties(message),
                    mandatory=True,
                    timeout=CONFIRM_SECONDS,
                    wait=False,
                )
            except (AMQPError, ConnectionError, TimeoutError, RuntimeError) as error:
                if attempt == ATTEMPTS - 1:
                    raise PublishFailed(
                        f"the broker did not confirm a message to {message.exchange!r}: {error!r}"
                    ) from error
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                return


async def open_channel(connection: aio_pika.abc.AbstractConnection) -> AbstractChannel:
    """A channel with publisher confirms, on which an unroutable message raises."""
    return await connection.channel(publisher_confirms=True, on_return_raises=True)


def _properties(message: Message) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type=message.content_type,
        headers=dict(message.headers),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        message_type=message.type,
        app_id=message.app_id,
        timestamp=message.timestamp,
    )


def lines_of(message: Message, published_at: float, confirmed_at: float) -> Iterator[Sent]:
    """What the ledger says of a confirmed message: a line for each of its events."""
    for planned in message.events:
        event = planned.event
        yield Sent(
            id=event.id,
            source=event.source,
            type=event.type,
            time=event.time,
            data=event.data,
            mode=message.mode,
            published_at=published_at,
            confirmed_at=confirmed_at,
            refusal=planned.reason,
        )
