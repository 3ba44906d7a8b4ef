"""Operations: what producers, our processes, consumers and operators do, each tagged with who does it.

The document describes the whole conversation, not one program of it: `send` is what somebody publishes
to an exchange, `receive` is what somebody takes from a queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.contract import Subscription
from streams.asyncapi.channels import messages_on, queue_key
from streams.asyncapi.contract import Contract, role_of
from streams.asyncapi.letters import LETTER
from streams.asyncapi.messages import BINDING_VERSION, key_of, reference
from streams.topology import DEAD_LETTERS, QUARANTINE

ROLES: Final = {
    "producer": "Services that publish what happens; in any language.",
    "worker": "Our process that stores events.",
    "updater": "Our process that keeps caches fresh.",
    "consumer": "Services that follow what we publish, on queues of their own.",
    "operator": "Whoever looks after refused messages.",
}

_SEND: Final = {"deliveryMode": 2, "mandatory": True, "bindingVersion": BINDING_VERSION}
_BROADCAST: Final = {"deliveryMode": 2, "mandatory": False, "bindingVersion": BINDING_VERSION}
_RECEIVE: Final = {"ack": True, "bindingVersion": BINDING_VERSION}


def operations(contract: Contract) -> dict[str, Any]:
    """All operations, by a name that says who and what."""
    found: dict[str, Any] = {}
    for exchange in contract.exchanges:
        if contract.from_producers(exchange.name):
            found[f"produce.{key_of(exchange.name)}"] = _produce(exchange.name, contract)
    for subscription in contract.subscriptions:
        found[f"consume.{key_of(subscription.queue)}"] = _consume(subscription, contract)
    for subscription in contract.subscriptions:
        for name, event in subscription.publishes.items():
            found |= _announce(name, event.exchange, role_of(subscription), event.mandatory)
    for name, event, role in contract.engines_own:
        found |= _announce(name, event.exchange, role, event.mandatory)
    return found | _letters()


def _produce(exchange: str, contract: Contract) -> dict[str, Any]:
    own = set(map(key_of, contract.on(exchange))) - set(map(key_of, contract.from_producers(exchange)))
    keys = [key for key in messages_on(exchange, contract) if key not in own]
    return _operation(
        "send",
        key_of(exchange),
        keys,
        "producer",
        f"Publish to {exchange}",
        "Persistent, mandatory, with publisher confirms: an event is ours once the broker has confirmed it. "
        "Until then publish it again, with the same id: a repeat has no second effect.",
        _SEND,
    )


def _consume(subscription: Subscription, contract: Contract) -> dict[str, Any]:
    doc = " ".join((subscription.handler.__doc__ or "").split())
    keys: dict[str, None] = {}
    for exchange, key in ((subscription.exchange, "#"), *subscription.also):
        keys |= dict.fromkeys(messages_on(exchange, contract) if key == "#" else [key_of(key)])
    return _operation(
        "receive",
        queue_key(subscription.queue),
        keys,
        role_of(subscription),
        f"Handler {subscription.queue}",
        f"{doc} Batches of up to {subscription.batch.size} events; a message is acknowledged once all that "
        "is in it is stored, or refused and confirmed in quarantine.".strip(),
        _RECEIVE,
    )


def _announce(name: str, exchange: str, role: str, mandatory: bool) -> dict[str, Any]:
    key = key_of(name)
    send = _operation(
        "send",
        key_of(exchange),
        [key],
        role,
        f"Announce {name}",
        "Published after the commit it belongs to; after a crash once more, as the same bytes. Structured."
        if role == "worker"
        else "Published once the effect stands in Redis. Structured.",
        _SEND if mandatory else _BROADCAST,
    )
    follow = _operation(
        "receive",
        key_of(exchange),
        [key],
        "consumer",
        f"Follow {name}",
        f"Bind a queue of your own to `{exchange}` with the key `{name}`. Expect repeats: remember "
        "(`source`, `id`)."
        if mandatory
        else f"Bind an exclusive queue to `{exchange}`. Nobody keeps what is said while you are away.",
        _RECEIVE,
    )
    return {f"publish.{key}": send, f"follow.{key}": follow}


def _letters() -> dict[str, Any]:
    refuse = _operation(
        "send",
        key_of(DEAD_LETTERS),
        [LETTER],
        "worker",
        "Refuse a message",
        "Confirmed by the broker before the original is acknowledged.",
        _SEND,
    )
    inspect = _operation(
        "receive",
        queue_key(QUARANTINE),
        [LETTER],
        "operator",
        "Look after refused messages",
        "With `streams dlq list`, `show`, `replay` and `drop`.",
        _RECEIVE,
    )
    return {"refuse": refuse, "inspect.quarantine": inspect}


def _operation(
    action: str, channel: str, messages: Iterable[str], role: str, title: str, text: str, amqp: dict[str, Any]
) -> dict[str, Any]:
    return {
        "action": action,
        "channel": reference("channels", channel),
        "title": title,
        "description": text,
        "messages": [reference("channels", channel, "messages", key) for key in messages],
        "tags": [{"name": role}],
        "bindings": {"amqp": amqp},
    }
