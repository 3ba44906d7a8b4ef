"""The shapes of our spans, in the names of OpenTelemetry's semantic conventions (1.4x).

Names of spans and of destinations are queues, exchanges and statements: few, and ours. A routing key
appears only on what we publish ourselves; what producers choose is never part of a name.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.trace import SpanKind

from streams.telemetry.records import Shape, Value
from streams.telemetry.sql import summarize

MESSAGE_ID: Final = messaging.MESSAGING_MESSAGE_ID
BODY_SIZE: Final = messaging.MESSAGING_MESSAGE_BODY_SIZE
MESSAGE_COUNT: Final = messaging.MESSAGING_BATCH_MESSAGE_COUNT
BATCH_SIZE: Final = db.DB_OPERATION_BATCH_SIZE
STATUS_CODE: Final = db.DB_RESPONSE_STATUS_CODE

# Ours, where the conventions have no word.
DELIVERY_COUNT: Final = "streams.message.delivery_count"
MESSAGE_EVENTS: Final = "streams.message.events"
FAILED_EVENTS: Final = "streams.message.failed_events"
BATCH_EVENTS: Final = "streams.batch.events"
BATCH_REPEATS: Final = "streams.batch.repeats"
BATCH_TRIGGER: Final = "streams.batch.trigger"
BATCH_DECIDED: Final = "streams.batch.decided"


def _operation(name: str, destination: str) -> dict[str, Value]:
    return {
        messaging.MESSAGING_SYSTEM: "rabbitmq",
        messaging.MESSAGING_OPERATION_NAME: name,
        messaging.MESSAGING_OPERATION_TYPE: name,
        messaging.MESSAGING_DESTINATION_NAME: destination,
    }


@lru_cache(maxsize=256)
def process(queue: str) -> Shape:
    return Shape(f"process {queue}", SpanKind.CONSUMER, _operation("process", queue))


@lru_cache(maxsize=256)
def process_batch(stream: str, queue: str) -> Shape:
    # INTERNAL: the CONSUMER spans are the messages' own, and a service graph must not count them twice.
    return Shape(f"process batch {stream}", SpanKind.INTERNAL, _operation("process", queue))


@lru_cache(maxsize=256)
def send(exchange: str, routing_key: str | None) -> Shape:
    name = exchange or "amq.default"
    attributes = _operation("send", f"{name}:{routing_key}" if routing_key else name)
    attributes[messaging.MESSAGING_DESTINATION_TEMPLATE] = name
    if routing_key:
        attributes[messaging.MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY] = routing_key
    return Shape(f"send {name}", SpanKind.PRODUCER, attributes)


@lru_cache(maxsize=256)
def settle(queue: str) -> Shape:
    return Shape(f"settle {queue}", SpanKind.CLIENT, _operation("settle", queue))


@lru_cache(maxsize=256)
def redis(operation: str) -> Shape:
    return Shape(operation, SpanKind.CLIENT, {db.DB_SYSTEM_NAME: "redis", db.DB_OPERATION_NAME: operation})


@lru_cache(maxsize=512)
def statement(sql: str, database: str | None = None, address: Any = None) -> Shape:
    """The span of a statement or of a summary such as "COPY event_history"; `address` as asyncpg has it."""
    operation, text = summarize(sql)
    attributes: dict[str, Value] = {
        db.DB_SYSTEM_NAME: "postgresql",
        db.DB_OPERATION_NAME: operation,
        db.DB_QUERY_SUMMARY: text,
    }
    if database:
        attributes[db.DB_NAMESPACE] = database
    if isinstance(address, tuple):
        attributes[server.SERVER_ADDRESS], attributes[server.SERVER_PORT] = address[0], address[1]
    elif isinstance(address, str):
        attributes[server.SERVER_ADDRESS] = address
    return Shape(text, SpanKind.CLIENT, attributes)
