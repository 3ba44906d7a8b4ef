"""Dead letters: what is refused, why, and how it can be told from the headers."""

from __future__ import annotations

from typing import Any, Final, assert_never

from schemas.errors import Reason
from streams.asyncapi.examples import TRACEPARENT
from streams.asyncapi.messages import BINDING_VERSION, reference
from streams.decode import STRUCTURED

LETTER: Final = "dead-letter"
LETTER_HEADERS: Final = "DeadLetterHeaders"


def meaning(reason: Reason) -> str:
    """What a reason code says, and to whom."""
    match reason:
        case Reason.UNDECODABLE:
            return (
                "The bytes are not what the content type says: no JSON, no CloudEvent, no known content type."
            )
        case Reason.UNKNOWN_TYPE:
            return "No handler of this queue takes the event's type."
        case Reason.INVALID_EVENT:
            return "An attribute or a field of `data` breaks its schema; `x-field` names it."
        case Reason.OUTSIDE_WINDOW:
            return "A date (`time`, or one inside a UUIDv7) is too far in the past or in the future."
        case Reason.TOO_LARGE:
            return "The message has too many bytes, or its array too many events."
        case Reason.REFUSED:
            return "The handler found the event impossible to apply."
        case Reason.DATABASE_REFUSED:
            return "PostgreSQL refused this event's values, and its neighbours' were stored."
        case Reason.HANDLER_FAILED:
            return (
                "The handler raised an error for this event; its neighbours were stored. Most likely a bug."
            )
        case Reason.KILLS_WORKER:
            return "The message was delivered again and again, tried alone, and was never acknowledged."
        case _:
            assert_never(reason)


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
                    "x-attempts": 1,
                    "x-delivery-count-before": 0,
                    "x-trace-id": TRACEPARENT.split("-")[1],
                    "traceparent": TRACEPARENT,
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
        "x-reasons": {str(reason): meaning(reason) for reason in Reason},
    }


def letter_headers() -> dict[str, Any]:
    """The headers that we add; the original's own ones are kept beside them."""
    text = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    properties: dict[str, dict[str, Any]] = {
        "x-reason": {
            "type": "string",
            "description": "Why. New reasons may be added: take one that you do not know as a refusal.",
            "enum": [str(reason) for reason in Reason],
            "x-may-grow": True,
        },
        "x-error": {**text, "description": "What is wrong and what to send instead; never the payload."},
        "x-field": {**text, "description": "Path of the culprit, as in `data.task_id`; may be empty."},
        "x-queue": {**text, "description": "The queue it was taken from."},
        "x-exchange": {**text, "description": "The exchange it was published to."},
        "x-routing-key": {**text, "description": "The routing key it was published with."},
        "x-attempts": {**count, "description": "How often it was tried by itself."},
        "x-delivery-count-before": {**count, "description": "How often the broker had delivered it before."},
        "x-trace-id": {**text, "description": "The trace that its processing belongs to; may be empty."},
        "x-message-id": {**text, "description": "The original's property `message_id`, if it had one."},
        "x-type": {**text, "description": "The original's property `type`, if it had one."},
        "x-app-id": {**text, "description": "The original's property `app_id`, if it had one."},
        "x-timestamp": {**text, "description": "The original's property `timestamp`, if it had one."},
    }
    optional = {"x-message-id", "x-type", "x-app-id", "x-timestamp"}
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
