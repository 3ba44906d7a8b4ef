"""What several tests need: publishing by hand, running services, waiting for conditions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from schemas.contract import Store
from streams.app import Service
from streams.decode import STRUCTURED
from streams.settings import Settings
from tests.conftest import Servers

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def event(type_: str, data: Mapping[str, Any], **attributes: Any) -> dict[str, Any]:
    """A CloudEvent as a producer would write it; `time` may be given in seconds from now."""
    offset = attributes.pop("seconds", 0)
    return {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "tests",
        "type": type_,
        "time": (datetime.now(UTC) + timedelta(seconds=offset)).isoformat(),
        "data": dict(data),
    } | attributes


async def publish(
    url: str, exchange: str, bodies: Sequence[Any], *, content_type: str = STRUCTURED, **properties: Any
) -> None:
    """Publish with confirms; what is no bytes is sent as JSON."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        target = await channel.get_exchange(exchange, ensure=False)
        properties.setdefault("delivery_mode", aio_pika.DeliveryMode.PERSISTENT)
        for start in range(0, len(bodies), 500):
            await asyncio.gather(
                *(
                    target.publish(
                        aio_pika.Message(
                            body if isinstance(body, bytes) else json.dumps(body).encode(),
                            content_type=content_type,
                            **properties,
                        ),
                        "test",
                    )
                    for body in bodies[start : start + 500]
                )
            )


async def take_all(url: str, queue: str) -> list[AbstractIncomingMessage]:
    """Empty a queue."""
    messages = []
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        source = await channel.get_queue(queue, ensure=False)
        while (message := await source.get(fail=False)) is not None:
            await message.ack()
            messages.append(message)
    return messages


async def depth(url: str, queue: str) -> int:
    """Messages that are ready in a queue."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return int(declared.declaration_result.message_count or 0)


def settings_for(servers: Servers, **overrides: Any) -> Settings:
    return Settings.load(
        amqp_url=servers.amqp, database_url=servers.database, redis_url=servers.redis, **overrides
    )


@asynccontextmanager
async def running(settings: Settings, *roles: Store) -> AsyncIterator[list[Service]]:
    """Services in this process, ready on entry; stopped in order on exit."""
    stop = asyncio.Event()
    services = [Service(settings, role) for role in roles or (Store.POSTGRES, Store.REDIS)]
    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(service.run(stop))
        try:
            await eventually(lambda: all(service.health.ready for service in services))
            yield services
        finally:
            stop.set()


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], what: str = "the condition", seconds: float = 20
) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it does not hold within `seconds`.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come true in {seconds} s"
        await asyncio.sleep(0.02)
