"""Brings a topology about in the broker, or sees that somebody has: a process need not be allowed to."""

from __future__ import annotations

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from schemas.errors import ConfigurationError, Unavailable
from streams.publisher import named
from streams.topology import Topology


async def declare(url: str, topology: Topology, *, timeout: float = 10.0) -> None:
    """Declare everything; a no-op where it exists already.

    Raises:
        ConfigurationError: something exists with other arguments, or this user may not declare.
        OSError, aio_pika.exceptions.AMQPError: the broker cannot be reached.
    """
    try:
        await _try_to_declare(url, topology, timeout)
    except ChannelAccessRefused as error:
        raise ConfigurationError(f"this user of RabbitMQ may not declare: {error}") from error


async def declare_or_find(url: str, topology: Topology, *, timeout: float = 10.0) -> None:
    """Declare everything or, where this user may not, see that it is there.

    Raises:
        Unavailable: it is not, and this user may not declare it.
        ConfigurationError, OSError, aio_pika.exceptions.AMQPError: as `declare`.
    """
    try:
        await _try_to_declare(url, topology, timeout)
    except ChannelAccessRefused:
        if missing := await find_missing(url, topology, timeout=timeout):
            raise Unavailable(
                f"{missing} is missing and this user may not declare it: run `streams topology apply` as one "
                "who may"
            ) from None


async def find_missing(url: str, topology: Topology, *, timeout: float = 10.0) -> str:
    """The first exchange or queue that is not there, or the empty text. Any user may ask; bindings and
    arguments cannot be asked for.

    Raises:
        OSError, aio_pika.exceptions.AMQPError: the broker cannot be reached.
    """
    async with await _connect(url, timeout) as connection:
        channel = await connection.channel()
        for exchange in topology.exchanges:
            try:
                await channel.get_exchange(exchange.name, ensure=True)
            except ChannelNotFoundEntity:
                return f"exchange {exchange.name}"
        for queue in topology.queues:
            try:
                await channel.get_queue(queue.name, ensure=True)
            except ChannelNotFoundEntity:
                return f"queue {queue.name}"
    return ""


async def _try_to_declare(url: str, topology: Topology, timeout: float) -> None:
    # On a connection of its own: a refusal closes the channel.
    async with await _connect(url, timeout) as connection:
        try:
            await topology.declare(await connection.channel())
        except ChannelPreconditionFailed as error:
            raise ConfigurationError(
                f"RabbitMQ holds a queue or exchange of other arguments: {error}"
            ) from None


async def _connect(url: str, timeout: float) -> AbstractConnection:
    return await aio_pika.connect(named(url, "streams-topology"), timeout=timeout)
