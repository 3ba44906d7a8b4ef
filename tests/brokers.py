"""A corner of a real broker for tests of producers: exchanges and queues, and what lands in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from streams.producer.message import BATCH
from tests.support import take_all

QUEUE = "landed"


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(url)
    async with connection:
        yield await connection.channel()


async def declare(url: str, *exchanges: str, queue: str = QUEUE, **arguments: Any) -> None:
    """A queue (quorum, unless told otherwise) that takes all that is published to these exchanges."""
    async with channel_to(url) as channel:
        landing = await channel.declare_queue(
            queue, durable=True, arguments={"x-queue-type": "quorum", **arguments}
        )
        for name in exchanges:
            await channel.declare_exchange(name, "topic", durable=True)
            await landing.bind(name, "#")


async def landed(url: str, queue: str = QUEUE) -> list[dict[str, Any]]:
    """All events in the queue, which is empty after this."""
    return [event for message in await take_all(url, queue) for event in events_of(message)]


def events_of(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    content = json.loads(message.body)
    return content if message.content_type == BATCH else [content]
