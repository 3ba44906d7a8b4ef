"""`send` spans, and the W3C context that goes out with messages. OpenTelemetry's API alone: without an
SDK in the process nothing is recorded, and a caller's context still travels.

A message with one event has a `send` span below the caller's. A batch has one: below the callers' span
if all of them share it; otherwise a trace of its own, linked to each caller's, and each event carries
its caller's context as a CloudEvents attribute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

# Names of the semantic conventions, which are not part of OpenTelemetry's API; a test compares them.
_SYSTEM: Final = "messaging.system"
_OPERATION_NAME: Final = "messaging.operation.name"
_OPERATION_TYPE: Final = "messaging.operation.type"
_DESTINATION: Final = "messaging.destination.name"
_TEMPLATE: Final = "messaging.destination.template"
_ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
_MESSAGE_ID: Final = "messaging.message.id"
_BODY_SIZE: Final = "messaging.message.body.size"
_COUNT: Final = "messaging.batch.message_count"
_ADDRESS: Final = "server.address"
_PORT: Final = "server.port"
_ERROR: Final = "error.type"


def current_context() -> SpanContext | None:
    """The caller's span, if there is one."""
    context = get_current_span().get_span_context()
    return context if context.is_valid else None


def context_headers(context: SpanContext) -> dict[str, str]:
    """`traceparent` and, where there is one, `tracestate`."""
    headers = {
        "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"
    }
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
    return headers


class Tracing:
    """Makes the `send` spans of one producer."""

    def __init__(self, host: str, port: int, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("agent-streams.producer", tracer_provider=provider)
        self._common: dict[str, AttributeValue] = {
            _SYSTEM: "rabbitmq",
            _OPERATION_NAME: "send",
            _OPERATION_TYPE: "send",
            _ADDRESS: host,
            _PORT: port,
        }

    def single(self, exchange: str, routing_key: str, message_id: str, size: int) -> Span:
        """The span of a message with one event, below the current one."""
        return self._tracer.start_span(
            f"send {exchange}",
            kind=SpanKind.PRODUCER,
            attributes=self._attributes(exchange, routing_key, message_id, size),
        )

    def batch(
        self,
        exchange: str,
        routing_key: str,
        message_id: str,
        size: int,
        callers: Iterable[SpanContext | None],
    ) -> tuple[Span, bool]:
        """The span of a batch, and whether it stands below the one span that all callers share."""
        callers = list(callers)
        distinct = {(c.trace_id, c.span_id): c for c in callers if c is not None}
        shared = len(distinct) == 1 and None not in callers
        parent = Context()
        if shared:
            parent = set_span_in_context(NonRecordingSpan(next(iter(distinct.values()))), parent)
        attributes = self._attributes(exchange, routing_key, message_id, size)
        if len(callers) > 1:
            attributes[_COUNT] = len(callers)
        span = self._tracer.start_span(
            f"send {exchange}",
            context=parent,
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=None if shared else [Link(context) for context in distinct.values()],
        )
        return span, shared

    def _attributes(
        self, exchange: str, routing_key: str, message_id: str, size: int
    ) -> dict[str, AttributeValue]:
        return {
            **self._common,
            _DESTINATION: f"{exchange}:{routing_key}",
            _TEMPLATE: exchange,
            _ROUTING_KEY: routing_key,
            _MESSAGE_ID: message_id,
            _BODY_SIZE: size,
        }


def end(span: Span, error: Exception | None) -> None:
    """The message is confirmed, or it failed; the error's text stays out, for it may name ids."""
    if error is not None:
        span.set_attribute(_ERROR, type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
    span.end()
