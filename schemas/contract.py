"""The contract between the engine and those who write handlers.

A handler receives a decoded, validated batch and an open transaction (or, for an updater, Redis), and
returns what it changed. The engine does all the rest: consuming, batching, de-duplication, history,
the outbox, publishing, acknowledging, quarantine, telemetry.

    stream = Stream("tasks")

    @stream.handler(exchange="tasks", events=TaskEvent, batch=BatchPolicy(size=500, linger=0.02))
    async def record_tasks(batch: Batch[TaskEvent], tx: Connection) -> Changes:
        ...
        return Changes(keys=..., tags=..., events=[...])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from schemas.envelope import Event, event_types
from schemas.errors import ConfigurationError

E = TypeVar("E", bound=Event)
Handler = Callable[["Batch[Any]", Any], Awaitable["Changes"]]
H = TypeVar("H", bound=Handler)


class Trigger(StrEnum):
    """What closed a batch."""

    SIZE = "size"
    BYTES = "bytes"
    LINGER = "linger"
    FLUSH = "flush"
    ALONE = "alone"  # a part of a batch that failed
    SUSPECT = "suspect"  # a message that may be what kills workers; nothing else is at work in the process


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is closed: at `size` events, `bytes` of decoded input, or `linger` seconds after
    its first event, whichever comes first. `lanes` transactions may be in flight at once, and `spare` more
    while the process has none of other queues."""

    size: int = 500
    linger: float = 0.02
    bytes: int = 4 * 1024 * 1024
    lanes: int = 3
    spare: int = 0

    @property
    def most_lanes(self) -> int:
        """Transactions in flight at most."""
        return self.lanes + self.spare


@dataclass(frozen=True, slots=True)
class Batch(Generic[E]):
    """The events of one transaction, repeats included.

    `repeats` holds the positions of events that the de-duplication record has seen before. Merging
    handlers treat them like any other (their effect is in the state already); a handler that
    appends must leave them out.
    """

    id: UUID
    events: Sequence[E]
    repeats: AbstractSet[int] = frozenset()
    trigger: Trigger = Trigger.SIZE

    @property
    def fresh(self) -> Sequence[E]:
        """The events that were never stored before."""
        if not self.repeats:
            return self.events
        return [event for i, event in enumerate(self.events) if i not in self.repeats]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a handler changed: cache keys and tags that are stale now, and events to publish.

    All of it is stored in the batch's outbox row, in the same transaction, and published after commit.
    """

    keys: AbstractSet[str] = frozenset()
    tags: AbstractSet[str] = frozenset()
    events: Sequence[Event] = ()


class RowReader(Protocol):
    """Reads from the primary database, bounded in time."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Any]:
        """Rows; raises Unavailable."""
        ...


class CacheWriter(Protocol):
    """What an updater is given: Redis as the caches use it, and what it may keep there besides."""

    @property
    def redis(self) -> Any:
        """A client for what is no cached value (sorted sets, say); None in tests that run without one."""

    @property
    def rows(self) -> RowReader | None:
        """What the database says now; None for an updater that was given no DATABASE_URL."""

    @property
    def metrics(self) -> Any:
        """The process's metrics, to count what is no cached value; None in tests that run without them."""

    async def invalidate(self, keys: AbstractSet[str], tags: AbstractSet[str]) -> None:
        """Make every value under these keys, and every value filled under these tags, unreadable,
        fills in flight included. Idempotent."""
        ...


class Store(StrEnum):
    """Where a handler's effects go."""

    POSTGRES = "postgres"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One handler and the queue it is fed from."""

    name: str
    exchange: str
    handler: Handler
    types: dict[str, type[Event]]
    batch: BatchPolicy
    store: Store
    queue: str
    also: tuple[tuple[str, str], ...] = ()
    """Further bindings: (exchange, routing key)."""
    publishes: dict[str, type[Event]] = field(default_factory=dict)
    """Types that the handler itself publishes; where they come back on its own queue they are done."""


@dataclass(slots=True)
class Stream:
    """A named collection of handlers: what a module of handlers exports as `stream`."""

    name: str
    subscriptions: list[Subscription] = field(default_factory=list)

    def handler(
        self,
        *,
        exchange: str,
        events: object,
        batch: BatchPolicy | None = None,
        queue: str | None = None,
        publishes: object = None,
    ) -> Callable[[H], H]:
        """Register `async def handler(batch, tx) -> Changes`, run inside one PostgreSQL transaction."""
        return self._register(exchange, events, batch, queue, Store.POSTGRES, (), publishes)

    def updater(
        self,
        *,
        exchange: str,
        events: object,
        batch: BatchPolicy | None = None,
        queue: str | None = None,
        also: Sequence[tuple[str, str]] = (),
    ) -> Callable[[H], H]:
        """Register `async def updater(batch, cache: CacheWriter) -> Changes`, which must be idempotent.

        The keys and tags it returns are broadcast to in-process caches once it has returned."""
        return self._register(exchange, events, batch, queue, Store.REDIS, tuple(also), None)

    def _register(
        self,
        exchange: str,
        events: object,
        batch: BatchPolicy | None,
        queue: str | None,
        store: Store,
        also: tuple[tuple[str, str], ...],
        publishes: object,
    ) -> Callable[[H], H]:
        def register(handler: H) -> H:
            name = queue or f"{self.name}.{getattr(handler, '__name__', 'handler')}"
            if any(known.queue == name for known in self.subscriptions):
                raise ConfigurationError(f"two handlers of the stream {self.name!r} share the queue {name!r}")
            self.subscriptions.append(
                Subscription(
                    name=self.name,
                    exchange=exchange,
                    handler=handler,
                    types=event_types(events),
                    batch=batch or BatchPolicy(),
                    store=store,
                    queue=name,
                    also=also,
                    publishes=event_types(publishes) if publishes else {},
                )
            )
            return handler

        return register
