"""Dead letters: where refused events go, with all that an operator needs to repair and replay them.

A letter is confirmed by the broker before its original is acknowledged. Its id is derived from what it
holds, so a crash in between makes the same letter again: the queue then holds it twice, and whoever
reads the queue (streams.dlq) goes by the id.

    body, content type  as received; an element of an array: the bytes of that element, a structured event
    x-original          what else the message had: its properties, and its headers as `headers`
    x-reason, x-error   the reason code (schemas.errors.REASONS), and a sentence
    x-field             the path of the culprit
    x-queue, x-exchange, x-routing-key   where it came from
    x-attempts          tries before it was refused
    x-replays           how often it had been replayed before that
    x-first-seen        when a worker first had it; the letter's own timestamp says when it was refused
    x-event-id, x-trace-id, traceparent  the event's id; the trace of its processing

The original's headers are in a table of their own: what a producer calls `x-reason`, or a `CC` that the
broker would act upon, means nothing there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID, uuid5

import structlog
from pamqp import encode
from pydantic_core import from_json

from schemas.errors import Reason
from streams.decode import BATCH, STRUCTURED
from streams.delivery import Delivery, Item
from streams.publisher import Outgoing, Publisher
from streams.topology import DEAD_LETTERS

log = structlog.get_logger(__name__)

REPLAYS: Final = "x-replays"
REPLAY_OF: Final = "x-replay-of"
FIRST_SEEN: Final = "x-first-seen"
OURS: Final = frozenset({REPLAYS, REPLAY_OF, FIRST_SEEN})
"""Headers that a replay adds; they are no part of the original."""
BROKERS: Final = frozenset(
    {
        "x-delivery-count",
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
        "x-acquired-count",
    }
)
"""Headers that the broker adds."""

_LETTERS: Final = UUID("5b8f3c52-8a39-5b2f-9a83-0c6d7b1d7a11")
_HEADER_BYTES: Final = 100 * 1024  # with ours below frame_max, 128 KB: more would close the connection
_MAX_ERROR: Final = 500
_MAX_NAME: Final = 200
_MAX_NESTING: Final = 32  # the library that writes a table recurses into it
_MAX_KEY: Final = 128  # bytes; it cuts longer names
_MAX_SHORT: Final = 255
_MAX_PEEK: Final = 64 * 1024


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
        letter = self.letter(item, reason, message, field=field, attempts=attempts)
        try:
            await self._publisher.publish(letter)
        except (TypeError, ValueError, struct.error):
            # A bug of ours; but a letter that cannot be written must not end the worker, again and again.
            log.exception("a dead letter is written without the original's properties", queue=self._queue)
            await self._publisher.publish(replace(letter, headers={**letter.headers, "x-original": {}}))

    def letter(
        self, item: Item, reason: Reason, message: str, *, field: str = "", attempts: int = 1
    ) -> Outgoing:
        """The dead letter of one event: the payload as received, the reason in the headers."""
        delivery = item.delivery
        body, content_type, properties = delivery.body, delivery.content_type, original(delivery)
        if item.raw is not None or (item.event is not None and delivery.media_type == BATCH):
            body = delivery.element(item.index) if item.raw is None else item.raw
            content_type = STRUCTURED
            properties["index"] = item.index
        event_id, event_type = _names(item, body)
        headers: dict[str, Any] = {
            "x-original": properties,
            "x-reason": str(reason),
            "x-error": message[:_MAX_ERROR],
            "x-field": field[:_MAX_NAME],
            "x-queue": self._queue,
            "x-exchange": delivery.exchange,
            "x-routing-key": delivery.routing_key,
            "x-attempts": attempts,
            "x-delivery-count-before": delivery.delivery_count,
            "x-event-id": event_id,
            "x-trace-id": (item.trace.trace_id if item.trace else None) or "",
            REPLAYS: replays(delivery.headers),
            FIRST_SEEN: _first_seen(delivery),
        }
        if item.trace is not None and item.trace.traceparent is not None:
            headers["traceparent"] = item.trace.traceparent
        if isinstance(first := delivery.headers.get(REPLAY_OF), str):
            headers[REPLAY_OF] = first[:_MAX_NAME]
        return Outgoing(
            exchange=DEAD_LETTERS,
            routing_key=f"{delivery.exchange[:200] or 'default'}.{reason}",
            message_id=str(letter_id(self._queue, content_type, body, properties)),
            type=_short(event_type),
            body=body,
            content_type=_short(content_type),
            headers=headers,
        )


def original(delivery: Delivery) -> dict[str, Any]:
    """The properties and the headers of a message, as far as they fit, by their AMQP names."""
    headers, lost = _bounded(delivery.headers)
    properties: dict[str, Any] = {
        "content_type": delivery.content_type or None,
        "message_id": delivery.message_id,
        "type": delivery.type,
        "app_id": delivery.app_id,
        "timestamp": delivery.timestamp,
        **delivery.others(),
        "headers": headers or None,
        "headers_lost": lost or None,
    }
    return {name: value for name, value in properties.items() if value is not None}


def letter_id(queue: str, content_type: str, body: bytes, properties: Mapping[str, Any]) -> UUID:
    """The id of a letter: the same for the same event from the same queue, however often it was refused.

    A structured event is all in its body; anything else is what it is by its properties and headers, too.
    """
    digest = blake2b(body, digest_size=16)
    if content_type.partition(";")[0].strip().lower() == STRUCTURED:
        return _identifier(queue, digest)
    digest.update(content_type.encode())
    for name in ("type", "app_id", "timestamp"):
        digest.update(f"\0{properties.get(name)}".encode())
    for name, value in sorted(properties.get("headers", {}).items()):
        digest.update(_written(name, value) or name.encode())
    nameless = _identifier(queue, digest)
    message_id = properties.get("message_id")
    if not message_id or message_id == str(nameless):
        return nameless  # a replay gives a message without an id that of its letter
    digest.update(f"\0{message_id}".encode())
    return _identifier(queue, digest)


def _identifier(queue: str, digest: blake2b) -> UUID:
    return uuid5(_LETTERS, f"{queue}\0{digest.hexdigest()}")


def replays(headers: Mapping[str, Any]) -> int:
    """How often a message was replayed already."""
    count = headers.get(REPLAYS, 0)
    return count if isinstance(count, int) and 0 <= count < 1 << 31 else 0


def names_in(body: bytes) -> tuple[str, str]:
    """The `id` and the `type` that a structured event names, valid or not; empty where there is none."""
    if len(body) > _MAX_PEEK:
        return "", ""
    try:
        event = from_json(body)
    except ValueError:
        return "", ""
    if not isinstance(event, dict):
        return "", ""
    found = (event.get(name) for name in ("id", "type"))
    first, second = (value[:_MAX_NAME] if isinstance(value, str) else "" for value in found)
    return first, second


def _names(item: Item, body: bytes) -> tuple[str, str]:
    """The id and the type of the event, as far as they are known."""
    delivery = item.delivery
    if item.event is not None:
        return item.event.id, item.event.type
    event_id, event_type = names_in(body) if item.raw is not None or _is_structured(delivery) else ("", "")
    return event_id or delivery.message_id or "", event_type or delivery.type or "unknown"


def _short(text: str) -> str:
    """What fits into an AMQP short string; text that was no UTF-8 has grown by its replacement characters."""
    return text.encode()[:_MAX_SHORT].decode(errors="ignore")


def _is_structured(delivery: Delivery) -> bool:
    return delivery.media_type == STRUCTURED


def _first_seen(delivery: Delivery) -> str:
    earlier = delivery.headers.get(FIRST_SEEN)
    if isinstance(earlier, str) and len(earlier) <= 40:
        return earlier
    return datetime.fromtimestamp(delivery.received_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def _bounded(headers: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A producer's headers as far as they fit and can be written again, and the names of the others."""
    kept: dict[str, Any] = {}
    lost: list[str] = []
    room = _HEADER_BYTES
    for name, value in headers.items():
        if name in OURS or name in BROKERS:
            continue
        written = _written(name, value)
        if written is None or len(written) > room:
            lost.append(name[:_MAX_NAME])
        else:
            kept[name] = value
            room -= len(written)
    return kept, lost[:20]


def _written(name: str, value: Any) -> bytes | None:
    """A header as on the wire; None when it cannot be written as it was."""
    try:
        return encode.field_table({name: value}) if _writable({name: value}) else None
    except Exception:  # noqa: BLE001 - whatever a producer wrote must not keep its letter from being sent
        return None


def _writable(value: Any, depth: int = 0) -> bool:
    """Whether a value nests within reason, and no name in it would be cut."""
    match value:
        case dict():
            return depth < _MAX_NESTING and all(
                len(name.encode()) <= _MAX_KEY and _writable(item, depth + 1) for name, item in value.items()
            )
        case list():
            return depth < _MAX_NESTING and all(_writable(item, depth + 1) for item in value)
        case _:
            return True
