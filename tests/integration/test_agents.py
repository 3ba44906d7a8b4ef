"""Agents on a real database: one row each, whatever partition its status puts it in."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from schemas.agents import AgentStatus
from schemas.contract import Changes
from tests.integration.test_tasks import until_blocked
from tests.making import handle, make, new_id, store


def registered(agent: UUID, second: float = 0, **data: Any) -> Any:
    return make("agent.registered", second, agent_id=agent, **({"name": "Ann"} | data))


def changed(agent: UUID, status: str, second: float = 1) -> Any:
    return make("agent.status_changed", second, agent_id=agent, status=AgentStatus(status))


async def row(pool: asyncpg.Pool, agent: UUID) -> dict[str, Any]:
    found = await pool.fetch(
        "SELECT tableoid::regclass::text AS partition, * FROM agents WHERE id = $1", agent
    )
    assert len(found) == 1, "an agent has one row"
    return dict(found[0])


async def test_a_row_moves_with_its_status(database: asyncpg.Pool) -> None:
    agent = uuid4()
    await store(database, registered(agent, capabilities=("x", 'y "z", {}')))
    stored = await row(database, agent)
    assert (stored["partition"], stored["status"], stored["name"]) == ("agents_active", "active", "Ann")
    assert stored["capabilities"] == ["x", 'y "z", {}']
    await store(database, changed(agent, "paused"))
    stored = await row(database, agent)
    assert (stored["partition"], stored["status"], stored["name"]) == ("agents_inactive", "paused", "Ann")
    assert stored["updated_at"] > stored["created_at"]


async def test_registering_is_a_change_of_status_too(database: asyncpg.Pool) -> None:
    agent = uuid4()
    await store(database, changed(agent, "processing", 1), registered(agent, 2, is_active=False))
    stored = await row(database, agent)
    assert (stored["status"], stored["is_active"]) == ("inactive", False)
    await store(database, changed(agent, "active", 3), registered(agent, 0, name="older"))
    stored = await row(database, agent)
    assert (stored["status"], stored["is_active"], stored["name"]) == ("active", False, "Ann")


async def test_a_status_may_come_before_the_registration(database: asyncpg.Pool) -> None:
    agent = uuid4()
    await store(database, changed(agent, "processing"))
    assert (await row(database, agent))["name"] is None
    await store(database, registered(agent))
    stored = await row(database, agent)
    assert (stored["name"], stored["status"]) == ("Ann", "processing")


async def test_who_registers_late_has_what_was_earned_before(database: asyncpg.Pool) -> None:
    agent = uuid4()
    for _ in range(2):
        task = new_id()
        await store(
            database,
            make("task.assigned", 0, task_id=task, agent_id=agent),
            make("task.completed", 1, task_id=task),
        )
    await store(database, registered(agent))
    assert (await row(database, agent))["reputation_score"] == 20


async def test_registering_and_scoring_at_once_loses_no_points(database: asyncpg.Pool) -> None:
    agent, task = uuid4(), new_id()
    async with database.acquire() as one, database.acquire() as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        await handle(one, [registered(agent)])
        life = [
            make("task.assigned", 0, task_id=task, agent_id=agent),
            make("task.completed", 1, task_id=task),
        ]
        waiting = asyncio.create_task(handle(two, life))
        await until_blocked(database, two.get_server_pid())
        await first.commit()
        await waiting
        await second.commit()
    assert (await row(database, agent))["reputation_score"] == 10


async def test_caches_hear_of_what_changed_and_of_nothing_else(database: asyncpg.Pool) -> None:
    agent, other = uuid4(), uuid4()
    await store(database, registered(agent), registered(other))
    changes = await store(database, changed(agent, "paused"), registered(other, -5, name="older"))
    # The other's first event is an older one now: its created_at has changed.
    assert {f"ag:{agent}", f"stats:ag:{agent}", f"ag:{other}"} <= changes.keys
    assert {f"agent:{agent}", "agents"} <= changes.tags
    assert await store(database, changed(agent, "processing", 0.5)) == Changes()


@pytest.mark.parametrize("status", list(AgentStatus))
async def test_repeats_write_nothing(database: asyncpg.Pool, status: AgentStatus) -> None:
    agent = uuid4()
    life = [registered(agent), changed(agent, status)]
    await store(database, *life)
    before = await database.fetch("SELECT ctid, * FROM agents")
    assert await store(database, *reversed(life)) == Changes()
    assert await database.fetch("SELECT ctid, * FROM agents") == before
