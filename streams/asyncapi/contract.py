"""Who publishes what, and who takes it: the subscriptions, seen from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.contract import Store, Subscription
from schemas.envelope import Event
from schemas.invalidations import CacheApplied, CacheInvalidated
from streams.topology import (
    CACHE_BUS,
    DEAD_LETTERS,
    INVALIDATIONS,
    QUARANTINE,
    Exchange,
    Queue,
    Topology,
)

ENGINES_OWN: Final = (INVALIDATIONS, CACHE_BUS, DEAD_LETTERS)
"""Exchanges that are there whatever is handled."""

EventTypes = Mapping[str, type[Event]]


@dataclass(frozen=True, slots=True)
class Contract:
    """What the document is made from."""

    subscriptions: Sequence[Subscription]
    topology: Topology

    @classmethod
    def of(cls, subscriptions: Iterable[Subscription]) -> Contract:
        subscriptions = list(subscriptions)
        return cls(subscriptions, Topology.of(subscriptions))

    @property
    def exchanges(self) -> list[Exchange]:
        """Those of the handlers in their order, then the engine's own."""
        first = [subscription.exchange for subscription in self.subscriptions]
        order = [n for n in dict.fromkeys(first) if n not in ENGINES_OWN] + list(ENGINES_OWN)
        rank = {name: place for place, name in enumerate(order)}
        return sorted(self.topology.exchanges, key=lambda exchange: rank.get(exchange.name, -1))

    @property
    def queues(self) -> list[Queue]:
        """Those of the handlers in their order, then the one of refused messages."""
        return sorted(self.topology.queues, key=lambda queue: queue.name == QUARANTINE)

    @property
    def announced(self) -> EventTypes:
        """What handlers publish."""
        return {name: event for s in self.subscriptions for name, event in s.publishes.items()}

    @property
    def events(self) -> EventTypes:
        """All types, each once."""
        taken = {name: event for s in self.subscriptions for name, event in s.types.items()}
        return {**taken, **self.announced, **{name: event for name, event, _ in self.engines_own}}

    @property
    def engines_own(self) -> list[tuple[str, type[Event], str]]:
        """What the engine publishes by itself: (type, class, role)."""
        stores = {subscription.store for subscription in self.subscriptions}
        own: list[tuple[str, type[Event], str]] = []
        if Store.POSTGRES in stores:
            own.append(("cache.invalidated", CacheInvalidated, "worker"))
        if Store.REDIS in stores:
            own.append(("cache.applied", CacheApplied, "updater"))
        return own

    def on(self, exchange: str) -> EventTypes:
        """The types that travel by an exchange."""
        return {name: event for name, event in self.events.items() if event.exchange == exchange}

    def from_producers(self, exchange: str) -> EventTypes:
        """Those of them that others publish and a handler takes."""
        taken = {name for subscription in self.subscriptions for name in subscription.types}
        announced = self.announced
        return {n: event for n, event in self.on(exchange).items() if n in taken and n not in announced}


def role_of(subscription: Subscription) -> str:
    """The process that runs a handler."""
    return "worker" if subscription.store is Store.POSTGRES else "updater"
