"""Tasks on a real database: what is stored, what is told to caches, what is locked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from handlers import tasks
from handlers.task_merge import fold
from schemas.contract import Batch, Changes
from schemas.fields import dated
from tests.making import handle, make, new_id, store

ANN, BOB, USER = (uuid4() for _ in range(3))


@pytest.fixture(autouse=True, params=[tasks.LOAD, 1], ids=["rows", "copy"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few they are, tasks that are new are stored by COPY, too."""
    monkeypatch.setattr(tasks, "LOAD", request.param)


async def row(pool: asyncpg.Pool, task_id: UUID) -> dict[str, Any]:
    found = await pool.fetch("SELECT * FROM tasks WHERE id = $1", task_id)
    assert len(found) == 1
    return dict(found[0])


async def test_a_life_event_by_event(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(
        database, make("task.created", 0, task_id=task, kind="k", user_id=USER, priority=7, payload={"n": 1})
    )
    await store(database, make("task.assigned", 1, task_id=task, agent_id=ANN))
    await store(database, make("task.started", 2, task_id=task))
    await store(database, make("task.progressed", 3, task_id=task, progress=0.5, note="half"))
    await store(database, make("task.completed", 4, task_id=task, result={"ok": True}))
    stored = await row(database, task)
    assert stored["status"] == "completed"
    assert stored["created_at"] == dated(task)
    assert (stored["kind"], stored["user_id"], stored["priority"], stored["agent_id"]) == ("k", USER, 7, ANN)
    assert (stored["progress"], stored["note"]) == (0.5, "half")
    assert (orjson.loads(stored["payload"]), orjson.loads(stored["result"])) == ({"n": 1}, {"ok": True})
    assert stored["assigned_at"] < stored["started_at"] < stored["finished_at"] == stored["updated_at"]


async def test_large_values_stay_unless_a_newer_event_sets_them(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(database, make("task.created", 1, task_id=task, kind="new", payload={"new": 1}))
    await store(database, make("task.failed", 3, task_id=task, error={"code": "c", "message": "m"}))
    await store(database, make("task.created", 0, task_id=task, kind="old", payload={"old": 1}))
    await store(database, make("task.completed", 2, task_id=task, result={"early": 1}))
    stored = await row(database, task)
    assert (stored["kind"], stored["payload"], stored["result"]) == ("new", '{"new": 1}', None)
    assert (stored["status"], stored["retryable"]) == ("failed", False)
    await store(database, make("task.cancelled", 4, task_id=task, reason="enough"))
    stored = await row(database, task)
    assert (stored["error"], stored["retryable"], stored["reason"]) == (None, None, "enough")
    assert stored["payload"] == '{"new": 1}'


async def test_an_event_may_come_before_its_task_is_created(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(database, make("task.progressed", 3, task_id=task, progress=0.25))
    assert (await row(database, task))["status"] == "pending"
    await store(database, make("task.created", 0, task_id=task, kind="k", agent_id=ANN))
    stored = await row(database, task)
    assert (stored["status"], stored["agent_id"], stored["progress"]) == ("assigned", ANN, 0.25)


async def test_caches_of_both_agents_hear_of_a_handover(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(database, make("task.created", 0, task_id=task, kind="k", agent_id=ANN, user_id=USER))
    changes = await store(database, make("task.assigned", 1, task_id=task, agent_id=BOB))
    assert changes.keys == {f"t:{task}", f"stats:ag:{ANN}", f"stats:ag:{BOB}", f"ut:{USER}"}
    assert changes.tags == {f"agent:{ANN}", f"agent:{BOB}", f"user:{USER}"}


async def test_scores_that_change_reach_leaderboards(database: asyncpg.Pool) -> None:
    task = new_id()
    changes = await store(
        database,
        make("task.assigned", 0, task_id=task, agent_id=ANN),
        make("task.completed", 1, task_id=task),
    )
    assert {"leaderboards", "agents", f"agent:{ANN}"} <= changes.tags
    assert {f"ag:{ANN}", f"stats:ag:{ANN}"} <= changes.keys


async def test_repeats_and_older_events_change_nothing(database: asyncpg.Pool) -> None:
    task = new_id()
    life = [
        make("task.created", 0, task_id=task, kind="k", agent_id=ANN, payload={"a": 1}),
        make("task.assigned", 1, task_id=task, agent_id=BOB),
        make("task.completed", 2, task_id=task, result={"b": 2}),
    ]
    await store(database, *life)
    before = await database.fetch("SELECT xmin, ctid, * FROM tasks")
    assert await store(database, *reversed(life), *life) == Changes()
    assert await store(database, life[0]) == Changes()
    after = await database.fetch("SELECT xmin, ctid, * FROM tasks")
    assert before == after, "nothing was written"


async def test_a_task_that_fails_may_start_again(database: asyncpg.Pool) -> None:
    task = new_id()
    await store(database, make("task.assigned", 0, task_id=task, agent_id=ANN))
    await store(
        database, make("task.failed", 1, task_id=task, error={"code": "c", "message": ""}, retryable=True)
    )
    await store(database, make("task.started", 2, task_id=task))
    assert (await row(database, task))["status"] == "processing"
    assert await database.fetchval("SELECT points FROM agent_scores WHERE agent_id = $1", ANN) == 0


async def test_existing_rows_are_locked_without_a_new_version(database: asyncpg.Pool) -> None:
    """What the whole technique stands on: a row that fails DO UPDATE's WHERE is locked all the same."""
    event = make("task.created", 0, task_id=new_id(), kind="k")
    await store(database, event)
    version = await database.fetchval("SELECT ctid FROM tasks")
    async with database.acquire() as one, one.transaction():
        assert await handle(one, [event]) == Changes()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await database.fetch("SELECT FROM tasks FOR NO KEY UPDATE NOWAIT")
    assert await database.fetchval("SELECT ctid FROM tasks") == version


async def test_the_row_that_is_read_is_the_one_that_a_concurrent_batch_left(database: asyncpg.Pool) -> None:
    task = new_id()
    async with database.acquire() as one, database.acquire() as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        await handle(one, [make("task.assigned", 0, task_id=task, agent_id=ANN)])
        waiting = asyncio.create_task(handle(two, [make("task.assigned", 1, task_id=task, agent_id=BOB)]))
        await until_blocked(database, two.get_server_pid())
        await first.commit()
        changes = await waiting
        await second.commit()
    assert changes.tags == {f"agent:{ANN}", f"agent:{BOB}"}


async def test_a_key_whose_first_writer_rolls_back_is_inserted_by_the_next(database: asyncpg.Pool) -> None:
    task = new_id()
    event = make("task.created", 0, task_id=task, kind="k")
    async with database.acquire() as one, database.acquire() as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        await handle(one, [event])
        waiting = asyncio.create_task(handle(two, [event]))
        await until_blocked(database, two.get_server_pid())
        await first.rollback()
        assert f"t:{task}" in (await waiting).keys
        await second.commit()
    assert (await row(database, task))["kind"] == "k"


@pytest.fixture
def rows_by_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way leads nowhere."""
    monkeypatch.setattr(tasks, "INSERT_OR_LOCK", "SELECT 1 / 0 FROM unnest($1::task_change[])")


def created(count: int) -> list[Any]:
    return [make("task.created", 0, task_id=new_id(), kind="k", user_id=USER) for _ in range(count)]


@pytest.mark.usefixtures("rows_by_copy")
async def test_many_new_tasks_are_copied_with_all_that_is_told_of_them(database: asyncpg.Pool) -> None:
    new = created(tasks.LOAD)
    assigned = [make("task.assigned", 1, task_id=event.data.task_id, agent_id=ANN) for event in new]
    changes = await store(database, *new, *assigned)
    assert changes.keys == {f"t:{event.data.task_id}" for event in new} | {f"stats:ag:{ANN}", f"ut:{USER}"}
    found = await database.fetch(
        "SELECT kind, user_id, status, agent_id, count(*) FROM tasks GROUP BY 1, 2, 3, 4"
    )
    assert [tuple(group) for group in found] == [("k", USER, "assigned", ANN, tasks.LOAD)]


@pytest.mark.usefixtures("rows_by_copy")
@pytest.mark.parametrize("why", ["few", "untold", "repeats"])
async def test_what_is_no_load_is_not_copied(database: asyncpg.Pool, why: str) -> None:
    batch = Batch(new_id(), created(tasks.LOAD))
    if why == "few":
        batch = Batch(new_id(), batch.events[1:])
    elif why == "untold":
        batch = Batch(new_id(), [*batch.events, make("task.assigned", 1, task_id=new_id(), agent_id=ANN)])
    else:
        batch = Batch(new_id(), batch.events, frozenset({0}))
    async with database.acquire() as connection, connection.transaction():
        with pytest.raises(asyncpg.DivisionByZeroError):
            await tasks.record_tasks(batch, connection)


async def test_one_that_is_there_already_sends_all_of_them_the_other_way(database: asyncpg.Pool) -> None:
    new = created(tasks.LOAD)
    known = new[len(new) // 2].data.task_id
    await store(database, make("task.progressed", 5, task_id=known, progress=0.5))
    changes = await store(database, *new)
    assert {f"t:{event.data.task_id}" for event in new} <= changes.keys
    assert await database.fetchval("SELECT count(*) FROM tasks WHERE kind = 'k'") == tasks.LOAD
    assert (await row(database, known))["progress"] == 0.5


async def test_two_copies_of_the_same_tasks_wait_for_each_other(database: asyncpg.Pool) -> None:
    new = created(tasks.LOAD)
    async with database.acquire() as one, database.acquire() as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        await handle(one, new)
        waiting = asyncio.create_task(handle(two, [*reversed(new), *created(2)]))
        await until_blocked(database, two.get_server_pid())
        await first.commit()
        changes = await waiting
        await second.commit()
    assert sum(key.startswith("t:") for key in changes.keys) == 2
    assert await database.fetchval("SELECT count(*) FROM tasks") == tasks.LOAD + 2


@pytest.mark.parametrize("statement", [tasks.SELECT_LOCKED, tasks.UPDATE_CHANGED])
async def test_each_task_is_looked_up_by_key_in_its_own_partition(
    database: asyncpg.Pool, statement: str
) -> None:
    """The plan that a prepared statement ends up with; other partitions are pruned while it runs."""
    await store(database, *(make("task.created", 0, task_id=new_id(), kind="k") for _ in range(50)))
    task = new_id()
    event = make("task.completed", 1, task_id=task)
    await store(database, event)
    values: list[Any] = [[task], [dated(task)]]
    if "task_change" in statement:
        _, said = next(iter(fold([event]).items()))
        values = [[tasks._row(task, said)]]
    async with database.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        explained = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", *values)
    plan = "\n".join(line[0] for line in explained)
    assert "Seq Scan" not in plan, plan
    scans = [line for line in plan.splitlines() if "Index Scan" in line]
    assert scans
    assert sum("never executed" not in line for line in scans) == 1, plan


async def until_blocked(pool: asyncpg.Pool, pid: int) -> None:
    """Wait until a connection waits for another's lock."""
    async with asyncio.timeout(10):
        while not await pool.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.005)
