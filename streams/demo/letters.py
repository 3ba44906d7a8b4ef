"""Looks into the quarantine queue without taking anything out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from schemas.errors import ConfigurationError

QUARANTINE: Final = "quarantine"
_MOST: Final = 50_000


async def peek(connection: AbstractConnection, event_ids: Collection[str]) -> dict[str, list[str]]:
    """The reasons (`x-reason`) of the dead letters of these events, by event id.

    Messages are fetched and never acknowledged: closing the channel puts them back in their order. At
    most 50,000 are looked at.

    Raises:
        ConfigurationError: there is no quarantine queue.
    """
    found: dict[str, list[str]] = {}
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(QUARANTINE, passive=True)
        for _ in range(min(queue.declaration_result.message_count or 0, _MOST)):
            message = await queue.get(no_ack=False, fail=False)
            if message is None:
                break
            owner = _whose(message, event_ids)
            if owner is not None:
                found.setdefault(owner, []).append(_text(message.headers.get("x-reason", "")))
    except AMQPError as error:
        raise ConfigurationError(f"cannot look into the queue {QUARANTINE!r}: {error}") from error
    finally:
        await channel.close()
    return found


async def count(connection: AbstractConnection) -> int:
    """Messages in quarantine, other people's included."""
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(QUARANTINE, passive=True)
        return queue.declaration_result.message_count or 0
    finally:
        await channel.close()


def _whose(message: AbstractIncomingMessage, event_ids: Collection[str]) -> str | None:
    """The event a letter is about: its id stands in the payload, or in the headers of a binary message."""
    place = message.body + repr(dict(message.headers)).encode()
    return next((event_id for event_id in event_ids if event_id.encode() in place), None)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
