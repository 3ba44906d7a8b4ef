"""Events as values, and handlers run as the engine runs them: for tests of what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg

from handlers.agents import record_agents
from handlers.tasks import record_tasks
from handlers.votes import record_votes
from schemas.agents import AgentEvent, AgentEventBase
from schemas.contract import Batch, Changes, Handler
from schemas.envelope import Event, event_types
from schemas.fields import microseconds
from schemas.ids import uuid7
from schemas.tasks import TaskEvent, TaskEventBase
from schemas.votes import VoteEvent

TYPES = event_types(TaskEvent) | event_types(VoteEvent) | event_types(AgentEvent)
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)

_numbers = count(1)


def new_id() -> UUID:
    """A UUIDv7 of now: of a task, a round or an agent."""
    return uuid7()


def make(type_: str, second: float = 0, *, id: str = "", source: str = "tests", **data: Any) -> Any:  # noqa: A002
    """An event, `second` seconds after START; checked like one that comes over the wire."""
    for name in ("weight", "quorum"):
        if name in data:
            data[name] = Decimal(str(data[name]))
    return TYPES[type_].model_validate(
        {
            "specversion": "1.0",
            "id": id or f"event-{next(_numbers)}",
            "source": source,
            "type": type_,
            "time": START + timedelta(seconds=second),
            "data": data,
        }
    )


def handler_of(event: Event) -> Handler:
    """The handler that takes events of this kind."""
    if isinstance(event, TaskEventBase):
        return record_tasks
    return record_agents if isinstance(event, AgentEventBase) else record_votes


async def store(pool: asyncpg.Pool, *events: Event) -> Changes:
    """One batch of one family, in a transaction of its own."""
    async with pool.acquire() as connection, connection.transaction():
        return await handle(connection, events)


async def handle(connection: Any, events: Sequence[Event]) -> Changes:
    """One batch of one family, in the transaction that is open."""
    return await handler_of(events[0])(Batch(uuid7(), events), connection)


def order(event: Event) -> tuple[int, int, bytes, bytes]:
    """The total order of events, without `Event.stamp`."""
    return microseconds(event.time), event.rank, event.source.encode(), event.id.encode()
