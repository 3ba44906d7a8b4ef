"""Channels: every exchange and every queue, with AMQP bindings and the arguments that bindings leave out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from streams.asyncapi.contract import Contract, EventTypes
from streams.asyncapi.letters import LETTER, WRITTEN
from streams.asyncapi.messages import BINDING_VERSION, key_of, reference
from streams.topology import CACHE_BUS, DEAD_LETTERS, INVALIDATIONS, Exchange, Queue

_ENGINES_OWN: Final = {
    INVALIDATIONS: "What caches must forget: from our workers after each commit, and from services that own "
    "other entities. It has no alternate exchange: an invalidation that no queue takes is an error of its "
    "publisher.",
    CACHE_BUS: "Broadcast: what Redis has applied. Each process that keeps values in memory binds an "
    "exclusive, auto-delete queue of its own with the key `#`, and forgets everything "
    "when it loses that queue.",
    DEAD_LETTERS: "Refused messages. As the alternate exchange of the others it also takes what no queue is "
    "bound for, unchanged and without a reason; so it does with what the broker itself gives up on after the "
    "delivery limit (`x-death` tells).",
}


def queue_key(name: str) -> str:
    return f"queue.{key_of(name)}"


def channels(contract: Contract) -> dict[str, Any]:
    """All channels: exchanges under their names, queues under `queue.<name>`."""
    found = {key_of(exchange.name): _exchange(exchange, contract) for exchange in contract.exchanges}
    found |= {queue_key(queue.name): _queue(queue, contract) for queue in contract.queues}
    return found


def messages_on(exchange: str, contract: Contract) -> dict[str, Any]:
    """References to the messages of an exchange, by key."""
    if exchange == DEAD_LETTERS:
        return {LETTER: reference("components", "messages", LETTER)}
    keys = [key_of(name) for name in contract.on(exchange)]
    if contract.from_producers(exchange):
        keys += [f"{key_of(exchange)}.batch", f"{key_of(exchange)}.binary"]
    return {key: reference("components", "messages", key) for key in keys}


def _exchange(exchange: Exchange, contract: Contract) -> dict[str, Any]:
    types = contract.on(exchange.name)
    address, parameters = _address(exchange.name, types)
    channel: dict[str, Any] = {
        "address": address,
        "title": f"Exchange {exchange.name}",
        "description": _ENGINES_OWN.get(exchange.name) or _about(types),
        "servers": [reference("servers", name) for name in ("rabbitmq", "rabbitmq-tls")],
        "messages": messages_on(exchange.name, contract),
        "tags": [{"name": "exchange"}],
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": exchange.name, "type": "topic", "durable": True, "autoDelete": False},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }
    if parameters:
        channel["parameters"] = parameters
    if exchange.arguments:
        channel["x-arguments"] = exchange.arguments
    return channel


def _address(exchange: str, types: EventTypes) -> tuple[str, dict[str, Any]]:
    """The routing key, and what it may be."""
    if exchange == DEAD_LETTERS:
        return "{exchange}.{reason}", {
            "exchange": {
                "description": "The exchange that the original was published to; `default` for none.",
                "location": "$message.header#/x-exchange",
            },
            "reason": {
                "description": "The reason code.",
                "enum": list(WRITTEN),
                "location": "$message.header#/x-reason",
            },
        }
    if len(types) == 1:
        return next(iter(types)), {}
    return "{type}", {
        "type": {
            "description": "The event's type. Queues of ours are bound with `#`: any other key arrives, too.",
            "enum": list(types),
            "location": "$message.payload#/type",
        }
    }


def _about(types: EventTypes) -> str:
    """The first line of the module that defines an exchange's events."""
    if not types:
        return "Durable topic exchange."
    module = sys.modules[next(iter(types.values())).__module__]
    return (module.__doc__ or "Durable topic exchange.").strip().partition("\n")[0]


def _queue(queue: Queue, contract: Contract) -> dict[str, Any]:
    bound = ", ".join(f"`{key}` of `{exchange}`" for exchange, key in queue.bindings)
    return {
        "address": queue.name,
        "title": f"Queue {queue.name}",
        "description": f"Durable quorum queue, bound to {bound}. Declared by the service; publish to the "
        "exchange, not here.",
        "servers": [reference("servers", name) for name in ("rabbitmq", "rabbitmq-tls")],
        "messages": _messages_in(queue, contract),
        "tags": [{"name": "queue"}],
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": queue.name, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": BINDING_VERSION,
            }
        },
        "x-arguments": queue.arguments,
        "x-bound-to": [{"exchange": exchange, "routingKey": key} for exchange, key in queue.bindings],
    }


def _messages_in(queue: Queue, contract: Contract) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for exchange, key in queue.bindings:
        messages = messages_on(exchange, contract)
        found |= messages if key == "#" else {key_of(key): messages[key_of(key)]}
    return found
