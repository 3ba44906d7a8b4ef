"""An event on its way to the broker, and the message it travels in: fixed to the byte when it is made,
so that every repeat of it is the same message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import Span, SpanContext

from schemas.envelope import Event
from schemas.ids import uuid7
from streams.producer.frames import Properties, header_table, message_frames, publish_method
from streams.producer.tracing import Tracing, context_headers

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"


class Route:
    """Where events of one type from one source go."""

    __slots__ = ("batch", "exchange", "method", "routing_key", "structured")

    def __init__(self, event: Event) -> None:
        self.exchange = event.exchange
        self.routing_key = event.type
        self.method = publish_method(event.exchange, event.type, mandatory=event.mandatory)
        self.structured = Properties(STRUCTURED, event.type, event.source)
        self.batch = Properties(BATCH, event.type, event.source)


@dataclass(slots=True, eq=False)
class Parcel:
    """One event that was accepted for sending: its bytes, and who waits for its confirm."""

    event: Event
    body: bytes
    route: Route
    future: asyncio.Future[Event]
    caller: SpanContext | None = None

    def with_caller(self) -> bytes:
        """The event with its caller's trace context among its attributes, unless it has one of its own."""
        if self.caller is None or self.event.traceparent is not None:
            return self.body
        attributes = json.dumps(context_headers(self.caller), separators=(",", ":")).encode()
        return self.body[:-1] + b"," + attributes[1:]


@dataclass(slots=True, eq=False)
class Message:
    """One AMQP message with one event, or with several."""

    route: Route
    parcels: Sequence[Parcel]
    id: str
    body: bytes
    properties: bytes
    span: Span
    started: float
    """When its first event was accepted, by the loop's clock."""
    written_at: float = 0.0
    settled: bool = False
    attempts: int = 0
    """How often it was written to a connection; the broker may have it once this is not 0."""
    nacks: int = 0
    returned: str | None = None
    """Why no queue took it; its confirm follows."""
    done: asyncio.Future[None] | None = None
    """For who waits until it is settled."""

    def frames(self, frame_max: int) -> bytes:
        return message_frames(self.route.method, self.properties, self.body, frame_max)


class Packer:
    """Makes messages out of accepted events."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def single(self, parcel: Parcel, started: float) -> Message:
        """One event in structured mode, under the event's own id. Call it in the sender's context."""
        route, event = parcel.route, parcel.event
        span = self._tracing.single(route.exchange, route.routing_key, event.id, len(parcel.body))
        properties = route.structured.encode(event.id, int(time.time()), _headers(span))
        return Message(route, (parcel,), event.id, parcel.body, properties, span, started)

    def batch(self, parcels: Sequence[Parcel], started: float) -> Message:
        """Several events of one route as an array; a single one as in `single`."""
        route = parcels[0].route
        alone = len(parcels) == 1
        identifier = parcels[0].event.id if alone else str(uuid7())
        size = sum(len(parcel.body) for parcel in parcels)
        span, shared = self._tracing.batch(
            route.exchange, route.routing_key, identifier, size, [parcel.caller for parcel in parcels]
        )
        if alone:
            body, kind = parcels[0].body, route.structured
        else:
            # Where all share one context the message's headers say it for all of them.
            bodies = [parcel.body if shared else parcel.with_caller() for parcel in parcels]
            body, kind = b"[" + b",".join(bodies) + b"]", route.batch
        properties = kind.encode(identifier, int(time.time()), _headers(span))
        return Message(route, parcels, identifier, body, properties, span, started)


def _headers(span: Span) -> bytes:
    context = span.get_span_context()
    return header_table(context_headers(context)) if context.is_valid else b""
