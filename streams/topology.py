"""Exchanges, queues and bindings, as data; declared once, at start, by whoever starts first.

Worker queues are quorum queues that dead-letter at least once. Their delivery limit is only a
backstop, high above anything a healthy day brings: every lost connection counts one for all that was
prefetched, so a low limit dead-letters innocents. It must never be -1, which RabbitMQ 3.10 counts as a
limit. What no queue takes goes to quarantine by the alternate exchange; the invalidations exchange has
none, because with one the broker would acknowledge an unroutable mandatory publish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schemas.contract import Subscription

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel

DEAD_LETTERS: Final = "dead-letters"
QUARANTINE: Final = "quarantine"
INVALIDATIONS: Final = "invalidations"
CACHE_BUS: Final = "cache-bus"
_NO_ALTERNATE: Final = {INVALIDATIONS, CACHE_BUS, DEAD_LETTERS}

DELIVERY_LIMIT: Final = 500
_QUARANTINE_LIMIT: Final = 1_000_000  # operators look with get-and-requeue, and each look counts


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.name in _NO_ALTERNATE else {"alternate-exchange": DEAD_LETTERS}


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue and what it is bound to: (exchange, routing key)."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    arguments: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Topology:
    """All that must exist in the broker for a set of subscriptions."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    @classmethod
    def of(cls, subscriptions: Iterable[Subscription]) -> Topology:
        subscriptions = list(subscriptions)
        names = {DEAD_LETTERS, INVALIDATIONS, CACHE_BUS}
        for subscription in subscriptions:
            names |= {subscription.exchange, *(exchange for exchange, _ in subscription.also)}
        quarantine = Queue(
            QUARANTINE,
            ((DEAD_LETTERS, "#"),),
            {"x-queue-type": "quorum", "x-delivery-limit": _QUARANTINE_LIMIT},
        )
        queues = [quarantine, *(worker_queue(subscription) for subscription in subscriptions)]
        return cls(tuple(Exchange(name) for name in sorted(names)), tuple(queues))

    async def declare(self, channel: AbstractChannel) -> None:
        """Declare everything; a no-op where it exists with the same arguments."""
        # The dead-letter exchange first: other exchanges name it as their alternate.
        for exchange in sorted(self.exchanges, key=lambda e: e.name != DEAD_LETTERS):
            await channel.declare_exchange(exchange.name, "topic", durable=True, arguments=exchange.arguments)
        for queue in self.queues:
            declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
            for exchange_name, routing_key in queue.bindings:
                await declared.bind(exchange_name, routing_key)


def worker_queue(subscription: Subscription) -> Queue:
    """The queue that feeds one handler: everything published to its exchange, whatever the routing
    key, so that a type nobody knows is refused with a reason instead of being lost."""
    return Queue(
        subscription.queue,
        ((subscription.exchange, "#"), *subscription.also),
        {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": DEAD_LETTERS,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERY_LIMIT,
        },
    )
