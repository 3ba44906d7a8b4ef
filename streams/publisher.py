"""Publishes with confirms, on a connection of its own (a blocked publisher must not stop consumers)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractRobustConnection, DeliveryMode
from yarl import URL

from schemas.envelope import Event
from schemas.errors import Unavailable
from streams.amqp import Connection
from streams.decode import STRUCTURED


def named(url: str, name: str) -> str:
    """A URL whose connection shows under this name in RabbitMQ's management."""
    return str(URL(url).update_query(name=name))


class PublishFailed(Unavailable):
    """The broker did not confirm: it is away, it refused, or no queue takes the message."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that is fixed to the byte; it can be stored and published again as the same message."""

    exchange: str
    routing_key: str
    message_id: str
    type: str
    body: bytes
    content_type: str = STRUCTURED
    headers: Mapping[str, Any] = field(default_factory=dict)
    mandatory: bool = True

    @classmethod
    def of(cls, event: Event, headers: Mapping[str, Any] | None = None) -> Self:
        """An event in structured mode, to its own exchange with its type as the routing key."""
        return cls(
            exchange=event.exchange,
            routing_key=event.type,
            message_id=event.id,
            type=event.type,
            body=event.model_dump_json(exclude_none=True).encode(),
            headers=headers or {},
            mandatory=event.mandatory,
        )


class Publisher:
    """One connection and one confirming channel; persistent messages only.

    Args:
        url: amqp:// or amqps://.
        name: shows as the connection's name in RabbitMQ's management.
    """

    def __init__(self, url: str, name: str, *, timeout: float = 10.0) -> None:
        self._url = url
        self._name = name
        self._timeout = timeout
        self._connection: AbstractRobustConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._exchanges: dict[str, aio_pika.abc.AbstractExchange] = {}

    @property
    def channel(self) -> aio_pika.abc.AbstractChannel:
        assert self._channel is not None, "connect() comes first"
        return self._channel

    @property
    def is_closed(self) -> bool:
        """Whether publishing would fail now."""
        return self._channel is None or self._channel.is_closed

    async def connect(self) -> None:
        """Open the connection.

        Raises:
            OSError, aio_pika.exceptions.AMQPError: the broker cannot be reached or refuses us.
        """
        self._connection = await aio_pika.connect_robust(
            named(self._url, self._name), timeout=self._timeout, connection_class=Connection
        )
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)

    async def count(self, queue: str) -> tuple[int, int]:
        """(messages that wait, consumers) of a queue; asked on a channel of its own, which a queue that is
        not there would close.

        Raises:
            OSError, TimeoutError, aio_pika.exceptions.AMQPError: the broker is away, or the queue is.
        """
        assert self._connection is not None
        async with asyncio.timeout(self._timeout):
            channel = self._connection.channel(publisher_confirms=False)
            try:
                await channel.initialize()
                found = await (await channel.get_underlay_channel()).queue_declare(queue, passive=True)
            finally:
                await channel.close()
        return found.message_count or 0, found.consumer_count or 0

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await connection.close()

    async def publish(self, message: Outgoing, headers: Mapping[str, Any] | None = None) -> None:
        """Publish and wait for the broker's confirm.

        Args:
            headers: added to the message's own.

        Raises:
            PublishFailed: not confirmed. The message may still have arrived: publish it again
                under the same id.
        """
        await self._send(
            aio_pika.Message(
                message.body,
                content_type=message.content_type,
                message_id=message.message_id,
                type=message.type,
                timestamp=datetime.now(UTC),
                delivery_mode=DeliveryMode.PERSISTENT,
                headers={**message.headers, **(headers or {})},
            ),
            message.exchange,
            message.routing_key,
            message.mandatory,
        )

    async def _send(
        self, message: aio_pika.Message, exchange: str, routing_key: str, mandatory: bool
    ) -> None:
        try:
            target = self._exchanges.get(exchange)
            if target is None:
                target = await self.channel.get_exchange(exchange, ensure=False)
                self._exchanges[exchange] = target
            await target.publish(message, routing_key, mandatory=mandatory, timeout=self._timeout)
        except aio_pika.exceptions.DeliveryError as error:
            raise PublishFailed(f"no queue took {message.type} on exchange {exchange!r}") from error
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # Nobody cancelled us: aiormq does this to all who wait when it gives a silent connection up.
            raise PublishFailed(f"connection given up while publishing to {exchange!r}") from error
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError, RuntimeError) as error:
            raise PublishFailed(f"{type(error).__name__} while publishing to {exchange!r}") from error
