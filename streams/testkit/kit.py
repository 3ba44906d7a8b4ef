"""One batch at a time, through the engine's own transaction, with a list in the broker's place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import asyncpg

from schemas.contract import Store, Stream, Subscription, Trigger
from schemas.envelope import Event
from schemas.errors import ConfigurationError
from streams import outbox, partitions
from streams.acks import AckTracker
from streams.decode import STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item
from streams.facts import take_down
from streams.outcome import is_missing_partition
from streams.publisher import Outgoing
from streams.settings import Settings
from streams.stores import Applied, BatchStore, PostgresStore, RedisStore
from streams.telemetry import BatchTrace, Telemetry

Given = Event | Mapping[str, Any]
"""An event, or what a producer would write."""

_OUTBOX: Final = "SELECT batch_id, messages FROM outbox ORDER BY created_at, batch_id"


class Crash(StrEnum):
    """Where a worker dies."""

    BEFORE_COMMIT = "before commit"
    """The transaction holds everything, and is rolled back."""
    BEFORE_PUBLISH = "after commit, before publish"
    """What is to be published lies in the outbox alone."""
    BEFORE_ACK = "after publish, before ack"
    """All is done, and the broker delivers it again."""


class _Died(Exception):
    """Ends an attempt at its crash point; never leaves the kit."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a batch."""

    events: Sequence[Event]
    repeats: int = 0
    """Events that the de-duplication record had seen before."""
    published: Sequence[Outgoing] = ()
    """What was published, in order; empty after a crash before that."""
    crash: Crash | None = None

    @property
    def keys(self) -> set[str]:
        """Cache keys that were told to be stale."""
        return {key for event in self._bodies("cache.") for key in event["data"].get("keys", ())}

    @property
    def tags(self) -> set[str]:
        """Cache tags that were told to be stale."""
        return {tag for event in self._bodies("cache.") for tag in event["data"].get("tags", ())}

    @property
    def announced(self) -> list[dict[str, Any]]:
        """Events that the handler itself published."""
        return [event for event in self._bodies("") if not event["type"].startswith("cache.")]

    def _bodies(self, prefix: str) -> list[dict[str, Any]]:
        return [json.loads(m.body) for m in self.published if m.type.startswith(prefix)]


@dataclass(slots=True)
class Recorder:
    """The cache that an updater is given: it writes down what it was told to forget."""

    keys: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    redis: None = None
    rows: None = None
    metrics: None = None

    async def invalidate(self, keys: AbstractSet[str], tags: AbstractSet[str]) -> None:
        self.keys |= keys
        self.tags |= tags


class _OneConnection:
    """What a store needs of a database: transactions, here savepoints where one is open already."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.dies = False

    @asynccontextmanager
    async def transaction(self, on_query: object = None) -> AsyncIterator[asyncpg.Connection]:
        async with self._connection.transaction():
            yield self._connection
            if self.dies:
                raise _Died


class Kit:
    """Handlers on one database connection.

    Args:
        connection: to a migrated database (the `streams_database` fixture gives one).
        streams: the `stream` objects of the handlers' modules.
        url: of the same database, for checks that need further connections.
    """

    def __init__(self, connection: asyncpg.Connection, *streams: Stream, url: str = "") -> None:
        self.connection = connection
        self.url = url
        self.published: list[Outgoing] = []
        """Everything, in order, as a consumer would see it."""
        self.unacknowledged: list[Event] = []
        """What a worker had when it died; `recover` delivers it again."""
        self.cache = Recorder()
        self.subscriptions = [subscription for stream in streams for subscription in stream.subscriptions]
        self._database = _OneConnection(connection)
        self._settings = Settings.load()
        self._tracing = Telemetry.disabled().tracing

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *streams: Stream) -> AsyncIterator[Kit]:
        """A kit on a connection of its own, as sessions of the engine are set up."""
        connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
        try:
            yield cls(connection, *streams, url=url)
        finally:
            await connection.close()

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """Whatever happens inside leaves no trace: not in the database, not in the kit."""
        published, unacknowledged = list(self.published), list(self.unacknowledged)
        outer = self.connection.transaction()
        await outer.start()
        try:
            yield
        finally:
            await outer.rollback()
            self.published, self.unacknowledged = published, unacknowledged

    async def run(self, events: Sequence[Given], *, crash: Crash | None = None) -> Run:
        """One batch: decode, work, publish, acknowledge; up to the crash point if there is one.

        Raises:
            EventError: an event breaks its contract, or the handler refused one.
            Exception: whatever else the handler raised; nothing of the batch is stored then.
        """
        items = [self._item(event) for event in events]
        subscription = self.subscription_for(items)
        decoded = [item.event for item in items if item.event is not None]
        self._database.dies = crash is Crash.BEFORE_COMMIT
        trace = self._tracing.batch(subscription.name, subscription.queue, ())
        try:
            applied = await self._apply(subscription, items, trace)
        except _Died:
            self.unacknowledged += decoded
            return Run(decoded, crash=crash)
        finally:
            self._database.dies = False
        if crash is None:
            await self.connection.execute(outbox.DELETE, [applied.batch_id])
        else:
            self.unacknowledged += decoded
        if crash is Crash.BEFORE_PUBLISH:
            return Run(decoded, applied.repeats, crash=crash)
        self.published += applied.messages
        return Run(decoded, applied.repeats, applied.messages, crash)

    async def _apply(self, subscription: Subscription, items: Sequence[Item], trace: BatchTrace) -> Applied:
        """As a worker does: a partition that is missing inside the window is made, once."""
        store = self._store(subscription)
        try:
            return await store.apply(items, Trigger.SIZE, trace)
        except asyncpg.PostgresError as error:
            if not is_missing_partition(error):
                raise
            moments = {moment.date(): moment for i in items if i.event for moment in i.event.moments}
            for moment in moments.values():
                await partitions.repair(self.connection, str(error.table_name), moment)
        return await store.apply(items, Trigger.SIZE, trace)

    async def recover(self) -> list[Run]:
        """What follows a crash: the sweeper publishes what lies in the outbox, the broker delivers again."""
        await self.sweep()
        again, self.unacknowledged = self.unacknowledged, []
        families: dict[str, list[Event]] = {}
        for event in again:
            families.setdefault(self._queue_of(event), []).append(event)
        return [await self.run(family) for family in families.values()]

    async def sweep(self) -> int:
        """Publish and delete what crashes left in the outbox; returns the number of rows."""
        rows = await self.connection.fetch(_OUTBOX)
        for row in rows:
            self.published += outbox.decode(row["messages"])
        await self.connection.execute(outbox.DELETE, [row["batch_id"] for row in rows])
        return len(rows)

    async def forget(self) -> None:
        """As if the de-duplication window had passed: repeats come as new."""
        await self.connection.execute("DELETE FROM event_claims")

    async def state(self, *tables: str, leave_out: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
        """All rows of tables, in an order of their own.

        Args:
            leave_out: columns that may differ between runs that are otherwise alike.
        """
        found = {}
        for table in tables:
            rows = await self.connection.fetch(f"SELECT * FROM {_quoted(table)}")  # noqa: S608 - quoted
            plain = [{k: v for k, v in row.items() if k not in leave_out} for row in rows]
            found[table] = sorted(plain, key=repr)
        return found

    def subscription_for(self, items: Sequence[Item]) -> Subscription:
        """The handler that a batch goes to.

        Raises:
            ConfigurationError: no handler takes all of its types.
        """
        types = {item.event.type for item in items if item.event is not None}
        for subscription in self.subscriptions:
            if types <= subscription.types.keys():
                return subscription
        known = ", ".join(sorted(name for s in self.subscriptions for name in s.types))
        raise ConfigurationError(f"no handler takes {', '.join(sorted(types))} together; known: {known}")

    def decoded(self, events: Sequence[Given]) -> list[Event]:
        """Events as a handler gets them."""
        return [item.event for event in events if (item := self._item(event)).event is not None]

    def _item(self, given: Given) -> Item:
        """By way of the wire, so that an event that producers could not send cannot be tested with."""
        body = _written(given)
        type_ = given.type if isinstance(given, Event) else str(given.get("type"))
        types = {name: event for s in self.subscriptions for name, event in s.types.items()}
        decoder = Decoder(
            {type_: types[type_]} if type_ in types else types,
            Window(self._settings.retention, self._settings.clock_skew),
            max_bytes=self._settings.max_message_bytes,
            max_events=1,
            max_depth=self._settings.max_json_depth,
        )
        delivery = Delivery(
            body=body, content_type=STRUCTURED, headers={}, message_id=None, type=None, timestamp=None,
            app_id=None, exchange="", routing_key="", tag=1, acks=AckTracker(_nobody),
            received_ns=int(datetime.now(UTC).timestamp() * 1e9),
        )  # fmt: skip
        (item,) = decoder.decode(delivery)
        if item.error is not None:
            raise item.error
        assert item.event is not None
        if any(type_ in s.types for s in self.subscriptions if s.store is Store.POSTGRES):
            item.facts = take_down(item.event)  # as a worker's reader does
        return item

    def _queue_of(self, event: Event) -> str:
        return next(s.queue for s in self.subscriptions if event.type in s.types)

    def _store(self, subscription: Subscription) -> BatchStore:
        if subscription.store is Store.REDIS:
            return RedisStore(self.cache, subscription)
        return PostgresStore(self._database, subscription)  # type: ignore[arg-type]


def _written(given: Given) -> bytes:
    if isinstance(given, Event):
        return given.model_copy(update={"specversion": "1.0"}).model_dump_json(exclude_none=True).encode()
    return json.dumps(given, default=str).encode()


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'


async def _nobody(_: int) -> None: ...
