"""Scores follow the rows; a recount finds, and repairs, what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from handlers.recount import Difference, recompute
from schemas.agents import AgentStatus
from tests.making import START, handle, make, new_id, store

ANN, BOB = uuid4(), uuid4()
DAY = (START + timedelta(seconds=1)).date()


def done(agent: UUID, second: float = 1) -> list[Any]:
    task = new_id()
    return [
        make("task.assigned", second - 1, task_id=task, agent_id=agent),
        make("task.completed", second, task_id=task),
    ]


async def scores(pool: asyncpg.Pool) -> dict[tuple[UUID, date], tuple[int, ...]]:
    found = await pool.fetch("SELECT * FROM agent_scores")
    return {tuple(row[:2]): tuple(row[2:]) for row in found if any(row[2:])}


async def recount(pool: asyncpg.Pool, *since: date) -> list[Difference]:
    async with pool.acquire() as connection:
        return await recompute(connection, *since)


async def test_a_day_is_that_of_the_end_in_utc(database: asyncpg.Pool) -> None:
    midnight = (START.replace(hour=0, minute=0, second=0) - START).total_seconds()
    await store(database, *done(ANN, midnight), *done(ANN, midnight - 1))
    assert await scores(database) == {
        (ANN, START.date()): (1, 0, 0, 10),
        (ANN, START.date() - timedelta(days=1)): (1, 0, 0, 10),
    }


async def test_points_go_where_the_task_goes(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(
        database,
        make("task.assigned", 0, task_id=task, agent_id=ANN),
        make("task.failed", 1, task_id=task, error={"code": "c", "message": "m"}),
    )
    assert await scores(database) == {(ANN, DAY): (0, 1, 0, -5)}
    await store(database, make("task.assigned", 0.5, task_id=task, agent_id=BOB))
    assert await scores(database) == {(BOB, DAY): (0, 1, 0, -5)}
    await store(database, make("task.completed", 1.5, task_id=task))
    assert await scores(database) == {(BOB, DAY): (1, 0, 0, 10)}
    await store(database, make("task.cancelled", 2, task_id=task))
    assert await scores(database) == {}


async def test_agreement_is_gained_and_lost_after_the_decision(database: asyncpg.Pool) -> None:
    round_ = new_id()
    await store(
        database,
        make("round.opened", 0, round_id=round_, options=("a", "b"), quorum=1),
        make("vote.cast", 1, round_id=round_, agent_id=ANN, choice="a"),
    )
    today = await database.fetchval("SELECT (decided_at AT TIME ZONE 'UTC')::date FROM rounds")
    assert await scores(database) == {(ANN, today): (0, 0, 1, 3)}
    await store(database, make("vote.cast", 2, round_id=round_, agent_id=BOB, choice="a"))
    assert (await scores(database))[BOB, today] == (0, 0, 1, 3)
    await store(database, make("vote.retracted", 3, round_id=round_, agent_id=ANN))
    assert (ANN, today) not in await scores(database)
    await store(database, make("round.closed", 1.5, round_id=round_))
    assert await scores(database) == {}, "the vote became late"
    await store(database, make("round.closed", 9, round_id=round_))
    assert await scores(database) == {(BOB, today): (0, 0, 1, 3)}
    assert await recount(database) == []


async def test_a_decided_choice_that_is_no_option_any_more_earns_nothing(database: asyncpg.Pool) -> None:
    round_ = new_id()
    vote = make("vote.cast", 1, round_id=round_, agent_id=ANN, choice="a")
    await store(database, make("round.opened", 0, round_id=round_, options=("a", "b"), quorum=1), vote)
    await store(database, make("round.opened", 2, round_id=round_, options=("b", "c"), quorum=1))
    assert await scores(database) == {}
    assert await database.fetchval("SELECT decided_choice FROM rounds") == "a"
    assert await recount(database) == []


async def test_a_recount_finds_and_repairs_what_is_wrong(database: asyncpg.Pool) -> None:
    await store(database, *done(ANN), *done(BOB))
    await store(database, make("agent.registered", 0, agent_id=ANN, name="Ann"))
    await database.execute("UPDATE agent_scores SET completed = 4, points = 40 WHERE agent_id = $1", ANN)
    await database.execute("UPDATE agents SET reputation_score = 7")
    wrong = Difference(ANN, DAY, (4, 0, 0, 40), (1, 0, 0, 10))
    assert await recount(database) == [wrong, Difference(ANN, None, (7,), (40,))]
    assert await recount(database, DAY + timedelta(days=1)) == [Difference(ANN, None, (7,), (40,))]
    async with database.acquire() as connection, connection.transaction():
        assert await recompute(connection, repair=True) == [wrong, Difference(ANN, None, (7,), (10,))]
    assert await recount(database) == []
    assert await database.fetchval("SELECT reputation_score FROM agents") == 10


async def test_the_rights_of_a_worker_are_enough(database: asyncpg.Pool) -> None:
    """Handlers and the repair; the engine's own statements are tested elsewhere."""
    round_ = new_id()
    batches = [
        done(ANN),
        [opening(round_), make("vote.cast", 1, round_id=round_, agent_id=ANN, choice="a", weight=5)],
        [make("agent.registered", 0, agent_id=ANN, name="Ann", capabilities=("x",))],
    ]
    for _ in range(2):
        for batch in batches:
            async with database.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL ROLE streams_writer")
                await handle(connection, batch)
                assert await recompute(connection, repair=True) == []
    assert await database.fetchval("SELECT reputation_score FROM agents") == 13


async def test_four_writers_on_hot_keys_never_deadlock(database: asyncpg.Pool) -> None:
    """All families, all on the same few keys, in every writer's own random order."""
    tasks, rounds, agents = [[new_id() for _ in range(n)] for n in (40, 8, 12)]
    await store(database, *(opening(round_) for round_ in rounds[::2]))
    async with asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(storm(database, Random(seed), tasks, rounds, agents))
    assert (
        await database.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        == 0
    )
    assert await recount(database) == []


async def storm(
    pool: asyncpg.Pool, random: Random, tasks: Sequence[UUID], rounds: Sequence[UUID], agents: Sequence[UUID]
) -> None:
    """Any deadlock (40P01) or serialization failure (40001) is raised."""
    for _ in range(25):
        await store(pool, *(task_event(random, tasks, agents) for _ in range(60)))
        await store(pool, *(vote_event(random, rounds, agents) for _ in range(60)))
        await store(pool, *(agent_event(random, agents) for _ in range(15)))


def opening(round_: UUID) -> Any:
    return make("round.opened", 0, round_id=round_, options=("a", "b"), quorum=3)


def task_event(random: Random, tasks: Sequence[UUID], agents: Sequence[UUID]) -> Any:
    task, second = random.choice(tasks), random.uniform(0, 100)
    return random.choice(
        [
            make("task.created", second, task_id=task, kind="k", payload={"a": second}),
            make("task.assigned", second, task_id=task, agent_id=random.choice(agents)),
            make("task.started", second, task_id=task),
            make("task.completed", second, task_id=task),
            make("task.failed", second, task_id=task, error={"code": "c", "message": "m"}),
        ]
    )


def vote_event(random: Random, rounds: Sequence[UUID], agents: Sequence[UUID]) -> Any:
    round_, agent, second = random.choice(rounds), random.choice(agents), random.uniform(0, 100)
    if random.random() < 0.05:
        return opening(round_)
    if random.random() < 0.05:
        return make("round.closed", second, round_id=round_)
    return make("vote.cast", second, round_id=round_, agent_id=agent, choice=random.choice("ab"))


def agent_event(random: Random, agents: Sequence[UUID]) -> Any:
    status = random.choice(list(AgentStatus))
    return make("agent.status_changed", random.uniform(0, 100), agent_id=random.choice(agents), status=status)
