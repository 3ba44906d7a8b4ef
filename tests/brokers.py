"""A corner of a real broker for tests of producers: exchanges and queues, and what lands in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from streams.producer.message import BATCH

QUEUE = "landed"
_ACKNOWLEDGE = 500  # a quorum queue stops at 2,000 that are not


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
    """Take all events that are in the queue now."""
    messages: list[AbstractIncomingMessage] = []
    async with channel_to(url) as channel:
        declared = await channel.declare_queue(queue, passive=True)
        count = declared.declaration_result.message_count or 0
        await channel.set_qos(prefetch_count=2 * _ACKNOWLEDGE)
        if count:
            async with declared.iterator(timeout=30) as arriving:
                async for message in arriving:
                    messages.append(message)
                    ended = len(messages) == count
                    if ended or len(messages) % _ACKNOWLEDGE == 0:
                        await message.ack(multiple=True)
                    if ended:
                        break
    return [event for message in messages for event in events_of(message)]


def events_of(message: AbstractIncomingMessage) -> list[dict[str, Any]]:
    content = json.loads(message.body)
    return content if message.content_type == BATCH else [content]
