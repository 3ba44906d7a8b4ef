"""Dead letters: what is refused, why, and how it can be told from the headers."""

from __future__ import annotations

from typing import Any, Final

from schemas.errors import REASONS, Reason
from streams.asyncapi.examples import TRACEPARENT
from streams.asyncapi.messages import BINDING_VERSION, reference
from streams.decode import STRUCTURED

LETTER: Final = "dead-letter"
LETTER_HEADERS: Final = "DeadLetterHeaders"
_BY_THE_BROKER: Final = frozenset(
    {Reason.UNROUTABLE, Reason.DELIVERY_LIMIT, Reason.EXPIRED, Reason.REJECTED, Reason.FOREIGN}
)
WRITTEN: Final = tuple(str(reason) for reason in Reason if reason not in _BY_THE_BROKER)
"""What `x-reason` can say; the others are told by what the broker did to a message without that header."""


def letter() -> dict[str, Any]:
    """The message in `dead-letters`."""
    return {
        "name": LETTER,
        "title": "Dead letter",
        "summary": "A refused message as it was received, with the reason in its headers.",
        "description": "One letter per refused event. The body and the content type are the original's; a "
        "bad event of an array is a letter of its own, in structured mode. The same refusal, repeated after "
        "a crash, has the same `message_id`.",
        "contentType": STRUCTURED,
        "correlationId": reference("components", "correlationIds", "x-trace-id"),
        "headers": reference("components", "schemas", LETTER_HEADERS),
        "payload": {
            "title": "RefusedBody",
            "description": "Whatever was received: any bytes, under the original's content type.",
        },
        "tags": [{"name": "dead-letters"}],
        "bindings": {"amqp": {"messageType": LETTER, "bindingVersion": BINDING_VERSION}},
        "examples": [
            {
                "name": "invalid-event",
                "summary": "An assignment that names no agent.",
                "headers": {
                    "x-reason": str(Reason.INVALID_EVENT),
                    "x-error": "data.agent_id: Field required",
                    "x-field": "data.agent_id",
                    "x-queue": "tasks.record_tasks",
                    "x-exchange": "tasks",
                    "x-routing-key": "task.assigned",
                    "x-original": {"content_type": STRUCTURED, "headers": {"traceparent": TRACEPARENT}},
                    "x-attempts": 1,
                    "x-delivery-count-before": 0,
                    "x-event-id": "7d9f3c1e-0003",
                    "x-trace-id": TRACEPARENT.split("-")[1],
                    "x-replays": 0,
                    "x-first-seen": "2026-01-15T09:30:00.262+00:00",
                    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-b9c7c989f97918e1-01",
                },
                "payload": {
                    "specversion": "1.0",
                    "id": "7d9f3c1e-0003",
                    "source": "research-service",
                    "type": "task.assigned",
                    "time": "2026-01-15T09:30:00.250Z",
                    "data": {"task_id": "019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"},
                },
            }
        ],
        "x-reasons": {str(reason): REASONS[reason]._asdict() for reason in Reason},
    }


def letter_headers() -> dict[str, Any]:
    """The headers that we add; the original's own ones are kept beside them."""
    text = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    properties: dict[str, dict[str, Any]] = {
        "x-reason": {
            "type": "string",
            "description": "Why. New reasons may be added: take one that you do not know as a refusal.",
            "enum": list(WRITTEN),
            "x-may-grow": True,
        },
        "x-error": {**text, "description": "What is wrong and what to send instead; never the payload."},
        "x-field": {**text, "description": "Path of the culprit, as in `data.task_id`; may be empty."},
        "x-original": {
            "type": "object",
            "description": "The original's properties by their AMQP names, its headers as `headers`; of an "
            "element of an array its place as `index`.",
        },
        "x-queue": {**text, "description": "The queue it was taken from."},
        "x-exchange": {**text, "description": "The exchange it was published to; empty for none."},
        "x-routing-key": {**text, "description": "The routing key it was published with."},
        "x-attempts": {**count, "description": "How often it was tried before it was refused."},
        "x-delivery-count-before": {**count, "description": "How often the broker had delivered it before."},
        "x-event-id": {**text, "description": "The event's id, as far as it is known; may be empty."},
        "x-trace-id": {**text, "description": "The trace that its processing belongs to; may be empty."},
        "x-replays": {**count, "description": "How often it had been replayed before."},
        "x-first-seen": {**text, "description": "When a worker first had it."},
        "x-replay-of": {**text, "description": "Of one that was replayed: the span of its first refusal."},
        "traceparent": {**text, "description": "The span that processed it."},
    }
    optional = {"x-replay-of", "traceparent"}
    return {
        "title": LETTER_HEADERS,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def correlation_id() -> dict[str, Any]:
    return {
        "description": "The trace in which the event was refused.",
        "location": "$message.header#/x-trace-id",
    }
