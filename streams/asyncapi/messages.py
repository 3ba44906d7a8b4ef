"""One message per event type, and the two other forms that a message of an exchange may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.envelope import Event
from streams.asyncapi.contract import EventTypes
from streams.asyncapi.examples import OWN_SOURCE, TRACEPARENT, example_of
from streams.asyncapi.payloads import INSTANT_PATTERN, REF
from streams.asyncapi.rules import Limits
from streams.decode import BATCH, BINARY, STRUCTURED

BINDING_VERSION: Final = "0.3.0"
TRACE_HEADERS: Final = "TraceHeaders"
BINARY_HEADERS: Final = "BinaryHeaders"

_TRACE: Final = {
    "traceparent": {
        "type": "string",
        "description": "W3C trace context: the span that published the message. Ignored if it is not valid.",
        "examples": [TRACEPARENT],
    },
    "tracestate": {"type": "string", "description": "W3C trace state that goes with it."},
}


def key_of(name: str) -> str:
    """A name as a key of the document: AsyncAPI allows letters, digits, dots, hyphens, underscores."""
    return re.sub(r"[^\w.\-]", "_", name, flags=re.ASCII)


def reference(*path: str) -> dict[str, str]:
    """A JSON Reference into the document."""
    return {"$ref": "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)}


def structured(name: str, event: type[Event], schema: str, schemas: Mapping[str, Any], *, own: bool) -> Any:
    """The message of an event type: one CloudEvent in structured mode."""
    payload = example_of(schemas[schema], schemas)
    if own:
        payload["source"] = OWN_SOURCE
    text = (event.__dict__.get("__doc__") or "").strip()
    message: dict[str, Any] = {
        "name": name,
        "title": _words(event.__name__),
        "summary": _first_sentence(text),
        "description": " ".join(text.split()),
        "contentType": STRUCTURED,
        "correlationId": reference("components", "correlationIds", correlation_of(event)),
        "headers": reference("components", "schemas", TRACE_HEADERS),
        "payload": {"$ref": REF + schema},
        "tags": [{"name": event.exchange}],
        "bindings": {"amqp": {"messageType": name, "bindingVersion": BINDING_VERSION}},
        "examples": [{"name": "structured", "headers": {"traceparent": TRACEPARENT}, "payload": payload}],
    }
    return {key: value for key, value in message.items() if value != ""}


def batch(
    exchange: str, types: EventTypes, schemas_by_type: Mapping[str, str], messages: Any, limits: Limits
) -> Any:
    """An array of an exchange's events in one message."""
    examples = [messages[key_of(name)]["examples"][0]["payload"] for name in list(types)[:2]]
    two = [examples[0], {**examples[-1], "id": "7d9f3c1e-0002", "traceparent": TRACEPARENT}]
    members = [{"$ref": REF + schemas_by_type[name]} for name in types]
    return {
        "name": f"{exchange}.batch",
        "title": f"Many events of {exchange}",
        "summary": "Batch mode: an array of structured events in one message; the way to high rates.",
        "description": "A bad event costs only itself: its neighbours in the array are stored. The message "
        "is acknowledged after its last event. The routing key does not matter; `batch` will do.",
        "contentType": BATCH,
        "headers": reference("components", "schemas", TRACE_HEADERS),
        "payload": {
            "title": f"{_words(exchange).replace(' ', '')}Batch",
            "type": "array",
            "minItems": 1,
            "maxItems": limits.max_events_per_message,
            "items": members[0] if len(members) == 1 else {"oneOf": members},
        },
        "tags": [{"name": exchange}],
        "bindings": {"amqp": {"messageType": f"{exchange}.batch", "bindingVersion": BINDING_VERSION}},
        "examples": [{"name": "batch", "headers": {"traceparent": TRACEPARENT}, "payload": two}],
    }


def binary(
    exchange: str, types: EventTypes, schemas: Mapping[str, Any], schemas_by_type: Mapping[str, str]
) -> Any:
    """The body is an event's `data` alone; the attributes are AMQP properties."""
    data = {name: schemas[schemas_by_type[name]]["properties"]["data"] for name in types}
    distinct = list({str(schema): schema for schema in data.values()}.values())
    first, schema = next(iter(data.items()))
    return {
        "name": f"{exchange}.binary",
        "title": f"One event of {exchange}, in binary mode",
        "summary": "Binary mode: the body is the event's `data`, everything else AMQP properties.",
        "description": "For producers that want nothing but an AMQP library. The property `type` says which "
        "of the schemas the body has.",
        "contentType": BINARY,
        "headers": reference("components", "schemas", BINARY_HEADERS),
        "payload": distinct[0]
        if len(distinct) == 1
        else {"title": f"{_words(exchange).replace(' ', '')}Binary", "anyOf": distinct},
        "tags": [{"name": exchange}],
        "bindings": {"amqp": {"messageType": f"{exchange}.binary", "bindingVersion": BINDING_VERSION}},
        "examples": [
            {
                "name": "binary",
                "summary": f"properties: type={first}, message_id=7d9f3c1e-0001, app_id=research-service, "
                "timestamp=1768469400, delivery_mode=2",
                "headers": {"cloudEvents:time": "2026-01-15T09:30:00.250Z", "traceparent": TRACEPARENT},
                "payload": example_of(schema, schemas),
            }
        ],
        "x-amqp-properties": {
            "type": f"The event's type (required): {', '.join(types)}",
            "message_id": "The event's id (required)",
            "app_id": "The event's source (required)",
            "timestamp": "The event's time in whole seconds (required unless `cloudEvents:time` is there)",
            "content_type": BINARY,
            "delivery_mode": "2 (persistent)",
        },
    }


def header_schemas() -> dict[str, Any]:
    """The headers that messages of producers may carry; others are let through and ignored."""
    attributes: dict[str, tuple[str, dict[str, Any]]] = {
        "id": ("the property `message_id`", {"minLength": 1, "maxLength": 255}),
        "source": ("the property `app_id`", {"minLength": 1, "maxLength": 255}),
        "type": ("the property `type`", {}),
        "time": ("the property `timestamp`, which has whole seconds", {"pattern": INSTANT_PATTERN}),
    }
    return {
        TRACE_HEADERS: {"title": TRACE_HEADERS, "type": "object", "properties": _TRACE},
        BINARY_HEADERS: {
            "title": BINARY_HEADERS,
            "description": "CloudEvents attributes that go before AMQP's properties. `cloudEvents_id` and so "
            "on will do, too.",
            "type": "object",
            "properties": {
                **{
                    f"cloudEvents:{name}": {"type": "string", "description": f"Instead of {what}.", **rules}
                    for name, (what, rules) in attributes.items()
                },
                **_TRACE,
            },
        },
    }


def correlation_of(event: type[Event]) -> str:
    """The field of `data` that the events of one entity share; events about none have their id alone."""
    return event.entity or "id"


def correlation_ids(events: EventTypes) -> dict[str, Any]:
    ids = {}
    for name in sorted({correlation_of(event) for event in events.values()}):
        path = "id" if name == "id" else f"data/{name}"
        about = (
            "The event itself." if name == "id" else f"All events with the same {name} are about one thing."
        )
        ids[name] = {"description": about, "location": f"$message.payload#/{path}"}
    return ids


def _words(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-_.]", " ", name)
    return spaced[:1].upper() + spaced[1:].lower() if " " in spaced else spaced[:1].upper() + spaced[1:]


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "." if text else ""
