"""Agents: who they are and what state they are in, merged into one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, assert_never
from uuid import UUID

from handlers.batches import WRITES
from handlers.merging import newest
from handlers.scores import LOCK_AGENTS
from schemas import cache
from schemas.agents import AgentEvent, AgentStatus
from schemas.contract import Batch, Changes, Stream

if TYPE_CHECKING:
    import asyncpg

    from handlers.sql import Connection

stream = Stream("agents")

# The locked agents as they are. An agent may be locked and have no row: votes or tasks named it first.
SELECT_LOCKED: Final = """
SELECT id, created_at, updated_at, status, status_stamp, name, capabilities, is_active, registered_stamp
FROM agents WHERE id = ANY($1::uuid[])
"""

# Stores agents that have no row yet; what they earned before is theirs.
INSERT_NEW: Final = """
INSERT INTO agents (id, created_at, updated_at, status, status_stamp, name, capabilities, is_active,
    registered_stamp, reputation_score)
SELECT n.id, n.created_at, n.updated_at, n.status, n.status_stamp, n.name, n.capabilities, n.is_active,
    n.registered_stamp, COALESCE((SELECT sum(s.points) FROM agent_scores s WHERE s.agent_id = n.id), 0)
FROM unnest($1::agent_change[]) AS n
ORDER BY n.id
"""

# Writes what changed. A plain UPDATE, which may move the row to the partition of its new status.
UPDATE_CHANGED: Final = """
UPDATE agents a SET
    created_at = n.created_at, updated_at = n.updated_at, status = n.status, status_stamp = n.status_stamp,
    name = n.name, capabilities = n.capabilities, is_active = n.is_active,
    registered_stamp = n.registered_stamp
FROM unnest($1::agent_change[]) AS n
WHERE a.id = n.id
"""


class Status(NamedTuple):
    stamp: bytes
    status: str


class Registration(NamedTuple):
    stamp: bytes
    name: str
    capabilities: tuple[str, ...]
    is_active: bool


class Agent(NamedTuple):
    """All that is known of an agent. `first_at` and `last_at`: the times of its first and last event."""

    first_at: datetime
    last_at: datetime
    status: Status
    registration: Registration | None = None


def agent_of(event: AgentEvent) -> Agent:
    """An agent about which only this event is known."""
    if event.type == "agent.registered":
        data = event.data
        registration = Registration(event.stamp, data.name, data.capabilities, data.is_active)
        status = AgentStatus.ACTIVE if data.is_active else AgentStatus.INACTIVE
        return Agent(event.time, event.time, Status(registration.stamp, status), registration)
    if event.type == "agent.status_changed":
        return Agent(event.time, event.time, Status(event.stamp, event.data.status))
    assert_never(event)


def join(first: Agent, second: Agent) -> Agent:
    """What both know together: commutative, associative, idempotent."""
    return Agent(
        min(first.first_at, second.first_at),
        max(first.last_at, second.last_at),
        newest(first.status, second.status) or first.status,
        newest(first.registration, second.registration),
    )


def fold(events: Iterable[AgentEvent]) -> dict[UUID, Agent]:
    """What the events say about each agent, in ascending order of the agents' ids."""
    agents: dict[UUID, Agent] = {}
    for event in events:
        agent_id, said = event.data.agent_id, agent_of(event)
        known = agents.get(agent_id)
        agents[agent_id] = said if known is None else join(known, said)
    return dict(sorted(agents.items(), key=lambda item: item[0].int))


@stream.handler(exchange="agents", events=AgentEvent, batch=WRITES)
async def record_agents(batch: Batch[AgentEvent], tx: Connection) -> Changes:
    """Merge the events into their agents."""
    said = fold(batch.events)
    before = await _lock_and_read(tx, said)
    after = {
        agent_id: join(stored, agent) if (stored := before.get(agent_id)) else agent
        for agent_id, agent in said.items()
    }
    changed = {agent_id: agent for agent_id, agent in after.items() if agent != before.get(agent_id)}
    new = [_row(agent_id, agent) for agent_id, agent in changed.items() if agent_id not in before]
    old = [_row(agent_id, agent) for agent_id, agent in changed.items() if agent_id in before]
    if new:
        await tx.execute(INSERT_NEW, new)
    if old:
        await tx.execute(UPDATE_CHANGED, old)
    return _changes(changed)


async def _lock_and_read(tx: Connection, said: Mapping[UUID, Agent]) -> dict[UUID, Agent]:
    """The agents' rows, locked by their entries in the registry: until commit nobody else moves them."""
    new = {row["agent_id"] for row in await tx.fetch(LOCK_AGENTS, list(said))}
    known = [agent_id for agent_id in said if agent_id not in new]
    if not known:
        return {}
    return {row["id"]: _read(row) for row in await tx.fetch(SELECT_LOCKED, known)}


def _row(agent_id: UUID, agent: Agent) -> tuple[Any, ...]:
    """An agent_change."""
    _, name, capabilities, is_active = agent.registration or Registration(b"", "", (), True)
    return (
        agent_id,
        agent.first_at,
        agent.last_at,
        agent.status.status,
        agent.status.stamp,
        name if agent.registration else None,
        capabilities,
        is_active,
        agent.registration.stamp if agent.registration else None,
    )


def _read(row: asyncpg.Record) -> Agent:
    """A row of SELECT_LOCKED."""
    _, created_at, updated_at, status, status_stamp, name, capabilities, is_active, registered_stamp = row
    return Agent(
        created_at,
        updated_at,
        Status(status_stamp, status),
        Registration(registered_stamp, name, tuple(capabilities), is_active) if registered_stamp else None,
    )


def _changes(agents: Iterable[UUID]) -> Changes:
    keys, tags = set(), set()
    for agent_id in agents:
        keys |= {cache.agent_key(agent_id), cache.agent_stats_key(agent_id)}
        tags |= {cache.agent_tag(agent_id), cache.AGENTS_TAG}
    return Changes(keys=keys, tags=tags)
