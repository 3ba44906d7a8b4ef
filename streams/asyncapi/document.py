"""The AsyncAPI document, put together. A pure function of handlers and limits: no server is asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.contract import Subscription
from streams.asyncapi import letters, messages, rules
from streams.asyncapi.channels import channels
from streams.asyncapi.contract import Contract
from streams.asyncapi.messages import key_of, reference
from streams.asyncapi.operations import ROLES, operations
from streams.asyncapi.payloads import schemas_of
from streams.asyncapi.rules import VERSION, Limits
from streams.decode import BATCH, BINARY, STRUCTURED

_TITLE: Final = "Agent Streams"

_INTRODUCTION: Final = f"""\
What producers publish to RabbitMQ, what the service does with it, and what it publishes itself.

**Events are CloudEvents 1.0**, in one of three forms, told apart by the content type:

- structured, `{STRUCTURED}`: the body is one event. Every event type has a message of this form below.
- batch, `{BATCH}`: the body is an array of events; the messages named `*.batch`.
- binary, `{BINARY}`: the body is the event's `data`, the rest are AMQP properties; the messages named
  `*.binary`.

Attributes and fields that no schema names are let through and ignored. Trace context comes in the headers
`traceparent` and `tracestate`, or as attributes of an event.

**Delivery is at least once, the effect in PostgreSQL is once.** Order does not matter: every column takes the
value of the greatest event by (`time`, rank of the type, `source`, `id`). A message that is refused lands in
the queue `quarantine` with a reason code.

**`send`** is what somebody publishes, **`receive`** what somebody takes; the tags of an operation say who.

What the schemas cannot say, and the service checks:

"""

_TOLERATED: Final = "\n\nTolerated beyond the schemas, and not promised:\n\n"


def build(subscriptions: Iterable[Subscription], limits: Limits) -> dict[str, Any]:
    """The document of these handlers, as JSON-like values in a fixed order."""
    contract = Contract.of(subscriptions)
    names, schemas = schemas_of(contract.events.values())
    by_type = {name: names[event] for name, event in contract.events.items()}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:agent-streams",
        "info": {
            "title": _TITLE,
            "version": VERSION,
            "description": _introduction(limits),
            "tags": _tags(contract),
            **rules.extension(limits),
        },
        "defaultContentType": STRUCTURED,
        "servers": _servers(),
        "channels": channels(contract),
        "operations": operations(contract),
        "components": {
            "messages": _messages(contract, by_type, schemas, limits),
            "schemas": schemas
            | messages.header_schemas()
            | {letters.LETTER_HEADERS: letters.letter_headers()},
            "correlationIds": messages.correlation_ids(contract.events)
            | {"x-trace-id": letters.correlation_id()},
            "securitySchemes": {
                "password": {
                    "type": "userPassword",
                    "description": "SASL PLAIN: the user's name and password.",
                },
                "certificate": {"type": "X509", "description": "SASL EXTERNAL: a client certificate."},
            },
        },
    }


def _introduction(limits: Limits) -> str:
    return (
        _INTRODUCTION
        + rules.as_markdown(rules.beyond_the_schemas(limits))
        + _TOLERATED
        + rules.as_markdown(rules.beyond_the_promise())
    )


def _messages(
    contract: Contract, by_type: dict[str, str], schemas: dict[str, Any], limits: Limits
) -> dict[str, Any]:
    theirs = {name for exchange in contract.exchanges for name in contract.from_producers(exchange.name)}
    ours = {*contract.announced, *(name for name, _, _ in contract.engines_own)} - theirs
    found = {
        key_of(name): messages.structured(name, event, by_type[name], schemas, own=name in ours)
        for name, event in contract.events.items()
    }
    for exchange in contract.exchanges:
        types = contract.from_producers(exchange.name)
        if types:
            key = key_of(exchange.name)
            found[f"{key}.batch"] = messages.batch(exchange.name, types, by_type, found, limits)
            found[f"{key}.binary"] = messages.binary(exchange.name, types, schemas, by_type)
    return found | {letters.LETTER: letters.letter()}


def _tags(contract: Contract) -> list[dict[str, str]]:
    roles = [{"name": name, "description": text} for name, text in ROLES.items()]
    kinds = [
        {"name": "exchange", "description": "A durable topic exchange."},
        {"name": "queue", "description": "A durable quorum queue."},
    ]
    exchanges = [{"name": e.name, "description": f"Travels by {e.name}."} for e in contract.exchanges]
    return [*roles, *kinds, *exchanges]


def _servers() -> dict[str, Any]:
    password = reference("components", "securitySchemes", "password")
    variables = {
        "host": {"default": "localhost", "description": "The broker, or the load balancer of its nodes."},
        "vhost": {"default": "%2F", "description": "The virtual host, percent-encoded; `%2F` is `/`."},
    }
    common = {
        "host": "{host}",
        "pathname": "/{vhost}",
        "protocolVersion": "0-9-1",
        "variables": variables,
    }
    return {
        "rabbitmq": {
            **common,
            "host": "{host}:5672",
            "protocol": "amqp",
            "title": "RabbitMQ",
            "description": "Within a trusted network.",
            "security": [password],
        },
        "rabbitmq-tls": {
            **common,
            "host": "{host}:5671",
            "protocol": "amqps",
            "title": "RabbitMQ over TLS",
            "description": "Everywhere else; verify the server's certificate.",
            "security": [password, reference("components", "securitySchemes", "certificate")],
        },
    }
