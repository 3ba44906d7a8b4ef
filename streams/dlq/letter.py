"""One dead letter, whoever wrote it: our workers, or the broker by itself.

Which of the two it was is told by what the broker says (the exchange it was published to, `x-death`),
never by headers that a producer could have set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as column
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage

from schemas.errors import REASONS, Reason
from streams.decode import STRUCTURED
from streams.quarantine import BROKERS, FIRST_SEEN, OURS, REPLAY_OF, REPLAYS, letter_id, names_in, replays
from streams.topology import DEAD_LETTERS

_DEATHS: Final = {
    "delivery_limit": Reason.DELIVERY_LIMIT,
    "expired": Reason.EXPIRED,
    "rejected": Reason.REJECTED,
}
_PROPERTIES: Final = (
    "content_type",
    "content_encoding",
    "message_id",
    "type",
    "app_id",
    "timestamp",
    "correlation_id",
    "reply_to",
    "priority",
    "expiration",
    "user_id",
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. Texts are as they came: make them printable before they are shown."""

    id: UUID
    reason: str
    error: str
    field: str
    type: str
    event_id: str
    queue: str
    """The queue that it was refused by; empty when no queue had it."""
    exchange: str | None
    """Where it was published first; None: nobody knows, it cannot be replayed."""
    routing_key: str
    content_type: str
    size: int
    quarantined: datetime | None
    first_seen: datetime | None
    attempts: int
    replays: int
    trace_id: str
    replay_of: str | None
    """The traceparent of the first time that it was processed."""
    properties: Mapping[str, Any] = column(repr=False)
    """The original's, by their AMQP names, its headers under `headers`."""
    body: bytes = column(repr=False)

    @property
    def is_element(self) -> bool:
        """Whether it was one event of an array."""
        return "index" in self.properties

    def without_body(self) -> Letter:
        """For looking at many."""
        return replace(self, body=b"")


def read(message: AbstractIncomingMessage) -> Letter:
    """The letter that a message of the quarantine queue is."""
    if (message.exchange or "") != DEAD_LETTERS:
        return _by_broker(message, Reason.UNROUTABLE, "", message.exchange or "", None)
    death = _last_death(message.headers)
    if death is not None:
        reason = _DEATHS.get(_text(death.get("reason")), Reason.FOREIGN)
        exchange, queue = _where_from(message.headers, death)
        return _by_broker(message, reason, queue, exchange, _time(death.get("time")))
    original = message.headers.get("x-original")
    if not isinstance(original, dict):
        return _by_broker(message, Reason.FOREIGN, "", None, None)
    return _by_us(message, original)


def _by_us(message: AbstractIncomingMessage, properties: Mapping[str, Any]) -> Letter:
    headers = message.headers
    event_type = message.type or ""
    return Letter(
        id=_uuid(message.message_id)
        or letter_id(_text(headers.get("x-queue")), message.content_type or "", message.body, properties),
        reason=_text(headers.get("x-reason")),
        error=_text(headers.get("x-error")),
        field=_text(headers.get("x-field")),
        type="" if event_type == "unknown" else event_type,
        event_id=_text(headers.get("x-event-id")),
        queue=_text(headers.get("x-queue")),
        exchange=_text(headers.get("x-exchange")),
        routing_key=_text(headers.get("x-routing-key")),
        content_type=message.content_type or "",
        size=len(message.body),
        quarantined=_time(message.timestamp),
        first_seen=_time(headers.get(FIRST_SEEN)),
        attempts=_number(headers.get("x-attempts")),
        replays=replays(headers),
        trace_id=_text(headers.get("x-trace-id")),
        replay_of=_text(headers.get(REPLAY_OF)) or _text(headers.get("traceparent")) or None,
        properties=properties,
        body=message.body,
    )


def _by_broker(
    message: AbstractIncomingMessage, reason: Reason, queue: str, exchange: str | None, time: datetime | None
) -> Letter:
    """A message that came by the broker's own doing: as its producer published it."""
    headers = message.headers
    properties: dict[str, Any] = {
        name: value for name in _PROPERTIES if (value := getattr(message, name, None)) is not None
    }
    properties["headers"] = {k: v for k, v in headers.items() if k not in BROKERS and k not in OURS}
    content_type = message.content_type or ""
    structured = content_type.partition(";")[0].strip().lower() == STRUCTURED
    event_id, event_type = names_in(message.body) if structured else ("", "")
    traceparent = _text(headers.get("traceparent"))
    return Letter(
        id=letter_id(queue or f"{reason} {message.exchange}", content_type, message.body, properties),
        reason=str(reason),
        error=REASONS[reason].meaning,
        field="",
        type=event_type or message.type or "",
        event_id=event_id or message.message_id or "",
        queue=queue,
        exchange=exchange,
        routing_key=message.routing_key or "",
        content_type=content_type,
        size=len(message.body),
        quarantined=time,
        first_seen=_time(headers.get(FIRST_SEEN)),
        attempts=0,
        replays=replays(headers),
        trace_id=traceparent[3:35],
        replay_of=_text(headers.get(REPLAY_OF)) or traceparent or None,
        properties=properties,
        body=message.body,
    )


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _where_from(headers: Mapping[str, Any], death: Mapping[str, Any]) -> tuple[str, str]:
    """The exchange and the queue. A producer may send an `x-death` of its own, and the broker then only
    counts it up: what does not look like a first death goes back to the queue that it died in."""
    exchange, queue = _text(death.get("exchange")), _text(death.get("queue"))
    if death.get("count") == 1 and headers.get("x-first-death-exchange") == exchange:
        return exchange, queue
    return "", queue


def route(letter: Letter) -> tuple[str, str]:
    """Exchange and routing key that a replay goes to.

    Raises:
        ValueError: nobody knows where it came from.
    """
    if letter.exchange is None:
        raise ValueError("nothing says where it came from")
    if letter.exchange == "" and letter.queue:
        return "", letter.queue
    return letter.exchange, letter.routing_key


def replay_headers(letter: Letter) -> dict[str, Any]:
    """The headers that a replay carries: the original's, and what the next letter has to know."""
    headers = dict(letter.properties.get("headers", {}))
    headers[REPLAYS] = letter.replays + 1
    if letter.replay_of is not None:
        headers[REPLAY_OF] = letter.replay_of
    if letter.first_seen is not None:
        headers[FIRST_SEEN] = letter.first_seen.isoformat(timespec="milliseconds")
    return headers


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _uuid(value: str | None) -> UUID | None:
    try:
        return UUID(value or "")
    except ValueError:
        return None


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
