"""Dead letters: where refused events go, with all that an operator needs to repair and replay them.

A letter is confirmed by the broker before its original is acknowledged. Its id is derived from the
original, so a crash in between makes the same letter again, not a second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID, uuid5

from schemas.errors import Reason
from streams.decode import STRUCTURED
from streams.delivery import Delivery, Item
from streams.publisher import Outgoing, Publisher
from streams.topology import DEAD_LETTERS

_LETTERS: Final = UUID("5b8f3c52-8a39-5b2f-9a83-0c6d7b1d7a11")
_HEADER_BYTES: Final = 16 * 1024  # a header table beyond frame_max would close the connection


class Quarantine:
    """Publishes dead letters for one queue."""

    def __init__(self, publisher: Publisher, queue: str) -> None:
        self._publisher = publisher
        self._queue = queue

    async def put(
        self, item: Item, reason: Reason, message: str, *, field: str = "", attempts: int = 1
    ) -> None:
        """Publish a letter and wait for its confirm.

        Raises:
            PublishFailed: it is not certain that the letter arrived; put it again.
        """
        await self._publisher.publish(self.letter(item, reason, message, field=field, attempts=attempts))

    def letter(
        self, item: Item, reason: Reason, message: str, *, field: str = "", attempts: int = 1
    ) -> Outgoing:
        """The dead letter of one event: the payload as received, the reason in the headers."""
        delivery = item.delivery
        content_type = STRUCTURED if item.raw is not None else delivery.content_type
        body = item.raw
        if body is None and item.event is not None and delivery.body[:1].lstrip() == b"[":
            body, content_type = item.event.model_dump_json(exclude_unset=True).encode(), STRUCTURED
        headers: dict[str, Any] = {
            **_bounded(delivery.headers),
            "x-reason": str(reason),
            "x-error": message[:500],
            "x-field": field[:200],
            "x-queue": self._queue,
            "x-exchange": delivery.exchange,
            "x-routing-key": delivery.routing_key,
            "x-attempts": attempts,
            "x-delivery-count-before": delivery.delivery_count,
            "x-trace-id": (item.trace.trace_id if item.trace else None) or "",
        }
        properties = {
            "x-message-id": delivery.message_id,
            "x-type": delivery.type,
            "x-app-id": delivery.app_id,
            "x-timestamp": delivery.timestamp.isoformat() if delivery.timestamp else None,
        }
        headers |= {name: value for name, value in properties.items() if value}
        return Outgoing(
            exchange=DEAD_LETTERS,
            routing_key=f"{delivery.exchange or 'default'}.{reason}"[:255],
            message_id=str(uuid5(_LETTERS, f"{self._queue}\0{_identity(delivery)}\0{item.index}")),
            type=(item.event.type if item.event else delivery.type) or "unknown",
            body=delivery.body if body is None else body,
            content_type=content_type,
            headers=headers,
        )


def _identity(delivery: Delivery) -> str:
    """What tells this message from another: its id if it has one, and its content."""
    return f"{delivery.message_id or ''}\0{blake2b(delivery.body, digest_size=16).hexdigest()}"


def _bounded(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The original's headers as far as they fit; the broker's own `x-` ones would be misread as ours."""
    kept: dict[str, Any] = {}
    room = _HEADER_BYTES
    for name, value in headers.items():
        size = len(name) + len(str(value))
        if not name.startswith("x-") and size <= room:
            kept[name] = value
            room -= size
    return kept
