"""Where a batch takes effect: one PostgreSQL transaction, or Redis.

Both take the events of a batch and return what is to be published once the effect stands.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from asyncpg.pgproto import pgproto

from schemas.contract import Batch, CacheWriter, Changes, Subscription, Trigger
from schemas.envelope import Event
from schemas.ids import uuid7
from schemas.invalidations import AppliedData, CacheApplied, CacheInvalidated, InvalidatedData
from streams import outbox
from streams.delivery import Item
from streams.facts import HISTORY, Facts, facts_of
from streams.publisher import Outgoing
from streams.telemetry import BatchTrace

if TYPE_CHECKING:
    from streams.database import Connection, Database

SOURCE: Final = "agent-streams"
_NAMES_PER_EVENT: Final = 5_000  # keys or tags in one invalidation; the contract allows twice as many

# The keys that nobody had claimed; NULL when that is all of them, as it nearly always is.
CLAIM = """
SELECT CASE WHEN count(*) < cardinality($1::uuid[]) THEN COALESCE(array_agg(key), '{}') END
FROM claim_events($1::uuid[]) AS key
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """A batch whose effect stands."""

    batch_id: UUID
    messages: Sequence[Outgoing] = ()
    repeats: int = 0
    seconds: float = 0.0
    """How long the store took."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    in_outbox: bool = False
    """The messages are stored, too: whoever crashes now loses nothing."""


class BatchStore(Protocol):
    """Applies a batch, all or nothing; raises what went wrong."""

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied: ...


class PostgresStore:
    """De-duplication, state, history and outbox in one transaction."""

    def __init__(self, database: Database, subscription: Subscription) -> None:
        self._database = database
        self._handler = subscription.handler

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied:
        events = [item.event for item in items if item.event is not None]
        facts = [item.facts or facts_of(item.event) for item in items if item.event is not None]
        started = time.perf_counter()
        batch_id = uuid7()  # a new one for each attempt: an earlier commit's result may be unknown
        async with self._database.transaction(trace.on_query) as tx:
            repeats = await _claim(tx, facts)
            await _append_history(tx, items, facts, repeats, batch_id)
            changes = await self._handler(Batch(batch_id, events, repeats, trigger), tx)
            messages = _after_commit(batch_id, changes, trace)
            if messages:
                await outbox.insert(tx, batch_id, messages)
        return Applied(
            batch_id, messages, len(repeats), time.perf_counter() - started, in_outbox=bool(messages)
        )


class RedisStore:
    """Idempotent updates of the caches, and a broadcast to in-process caches afterwards."""

    def __init__(self, cache: CacheWriter, subscription: Subscription) -> None:
        self._cache = cache
        self._handler = subscription.handler

    async def apply(self, items: Sequence[Item], trigger: Trigger, trace: BatchTrace) -> Applied:
        events = [item.event for item in items if item.event is not None]
        started = time.perf_counter()
        batch_id = uuid7()
        with trace.redis("invalidate", batch=len(events)):
            changes = await self._handler(Batch(batch_id, events, frozenset(), trigger), self._cache)
        messages = _broadcast(batch_id, changes, events)
        return Applied(batch_id, messages, seconds=time.perf_counter() - started)


async def _claim(tx: Connection, facts: Sequence[Facts]) -> frozenset[int]:
    """The positions of events that were seen before, in an earlier batch or earlier in this one."""
    first: dict[bytes, int] = {}
    repeats = set()
    for position, fact in enumerate(facts):
        if first.setdefault(fact.claim, position) != position:
            repeats.add(position)
    # asyncpg's own UUID: made and compared in C, at a fifth of the cost of uuid.UUID.
    claimed = await tx.fetchval(CLAIM, list(map(pgproto.UUID, first)))
    if claimed is not None:
        fresh = {key.bytes for key in claimed}
        repeats.update(position for key, position in first.items() if key not in fresh)
    return frozenset(repeats)


async def _append_history(
    tx: Connection,
    items: Sequence[Item],
    facts: Sequence[Facts],
    repeats: frozenset[int],
    batch_id: UUID,
) -> None:
    batch = pgproto.UUID(batch_id.bytes)  # asyncpg would ask uuid.UUID for its bytes in every row
    sound = [item for item in items if item.event is not None]
    records = [
        (*fact.line, item.trace.trace_id if item.trace else None, batch)
        for position, (item, fact) in enumerate(zip(sound, facts, strict=True))
        if position not in repeats
    ]
    if records:
        await tx.copy_records_to_table("event_history", records=records, columns=HISTORY)


def _after_commit(batch_id: UUID, changes: Changes, trace: BatchTrace) -> list[Outgoing]:
    """The batch's invalidations and derived events, as messages fixed to the byte."""
    headers = {"traceparent": trace.traceparent} if trace.traceparent else {}
    now = datetime.now(UTC)
    messages = [
        Outgoing.of(
            CacheInvalidated(
                specversion="1.0",
                id=f"{batch_id}:{number}",
                source=SOURCE,
                time=now,
                data=InvalidatedData(keys=keys, tags=tags),
            ),
            headers,
        )
        for number, (keys, tags) in enumerate(_chunks(changes))
    ]
    return messages + [Outgoing.of(event, headers) for event in changes.events]


def _broadcast(batch_id: UUID, changes: Changes, events: Sequence[Event]) -> list[Outgoing]:
    now = datetime.now(UTC)
    causes = tuple(event.id for event in events)
    return [
        Outgoing.of(
            CacheApplied(
                specversion="1.0",
                id=f"{batch_id}:{number}",
                source=SOURCE,
                time=now,
                data=AppliedData(keys=keys, tags=tags, causes=causes),
            )
        )
        for number, (keys, tags) in enumerate(_chunks(changes))
    ]


def _chunks(changes: Changes) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Keys and tags in pieces that one event may carry; nothing when nothing changed."""
    keys, tags = _split(sorted(changes.keys)), _split(sorted(changes.tags))
    for number in range(max(len(keys), len(tags))):
        yield (keys[number] if number < len(keys) else ()), (tags[number] if number < len(tags) else ())


def _split(names: Iterable[str]) -> list[tuple[str, ...]]:
    iterator = iter(names)
    return list(iter(lambda: tuple(islice(iterator, _NAMES_PER_EVENT)), ()))
