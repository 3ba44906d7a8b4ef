"""The two judges of a payload: the document's schema, and the service's own decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from jsonschema import Draft7Validator, ValidationError
from jsonschema.validators import extend

from schemas.contract import Subscription
from streams.acks import AckTracker
from streams.asyncapi import Limits, build
from streams.decode import STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS

LIMITS = Limits(4_194_304, 5_000, 300, 365, 32)
SUBSCRIPTIONS = {s.queue: s for s in load_subscriptions(DEFAULT_HANDLERS)}
DOCUMENT = build(SUBSCRIPTIONS.values(), LIMITS)
MESSAGES: Mapping[str, Any] = DOCUMENT["components"]["messages"]
SCHEMAS: Mapping[str, Any] = DOCUMENT["components"]["schemas"]
NOW = datetime(2026, 1, 15, 9, 31, tzinfo=UTC)
"""Soon after the examples of the document happened."""


def _ecma_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """Patterns are ECMA-262's: `$` is the end of the text. Python's would also allow a newline there."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value, re.ASCII):
        yield ValidationError(f"does not match {pattern}")


Ecma = extend(Draft7Validator, {"pattern": _ecma_pattern})


@cache
def validator(schema: str) -> Any:
    """Of a schema in components, by its name."""
    return Ecma({"$ref": f"#/components/schemas/{schema}", "components": {"schemas": SCHEMAS}})


def validator_of(schema: Mapping[str, Any]) -> Any:
    """Of a schema that stands in a message."""
    return Ecma({**schema, "components": {"schemas": SCHEMAS}})


def schema_accepts(text: str, types: Mapping[str, Any]) -> bool:
    """Whether one of the messages of these types may have this body."""
    value = json.loads(text)
    return any(validator(_schema_name(name)).is_valid(value) for name in types)


def _schema_name(type_: str) -> str:
    return str(MESSAGES[type_]["payload"]["$ref"]).rpartition("/")[2]


@cache
def decoder(queue: str, retention_days: int = LIMITS.retention_days) -> Decoder:
    subscription: Subscription = SUBSCRIPTIONS[queue]
    return Decoder(
        subscription.types | subscription.publishes,
        Window(timedelta(days=retention_days), timedelta(seconds=LIMITS.clock_skew_seconds)),
        max_bytes=LIMITS.max_message_bytes,
        max_events=LIMITS.max_events_per_message,
        max_depth=LIMITS.max_json_depth,
    )


def service_says(body: bytes, queue: str, content_type: str = STRUCTURED, **properties: Any) -> list[Item]:
    """What the service makes of a message."""
    return decoder(queue).decode(delivery_of(body, content_type, **properties), NOW)


def delivery_of(body: bytes, content_type: str = STRUCTURED, **properties: Any) -> Delivery:
    """A message by hand."""
    fields: dict[str, Any] = {
        "headers": {}, "message_id": None, "type": None, "timestamp": None, "app_id": None, "exchange": "x",
        "routing_key": "", "tag": 1, "acks": AckTracker(_nobody), "received_ns": 0,
    }  # fmt: skip
    return Delivery(body=body, content_type=content_type, **(fields | properties))


async def _nobody(_: int) -> None: ...
