"""Partitions: made ahead, repaired inside the allowed window and nowhere else, retired by retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from streams import partitions
from streams.telemetry.metrics import Metrics

MONTHLY = ("event_history", "round_tallies", "rounds", "tasks", "votes")

INSERT_TASK = "INSERT INTO tasks (id, created_at, updated_at) VALUES ($1, $2, now())"

DETACHED = """
SELECT count(*) FROM pg_class WHERE relname = $1 AND relkind = 'r' AND NOT relispartition
"""


@pytest.fixture
async def owner(database: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with database.acquire() as conn:
        yield conn


@pytest.fixture
async def writer(database: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A connection with no more rights than a worker's."""
    async with database.acquire() as conn:
        await conn.execute("SET ROLE streams_writer")
        yield conn


async def names(conn: asyncpg.Connection, table: str) -> list[str]:
    rows = await conn.fetch("SELECT partition_name FROM list_partitions() WHERE table_name = $1", table)
    return sorted(row["partition_name"] for row in rows)


async def remove(conn: asyncpg.Connection, table: str, at: datetime) -> str:
    """Make a hole; returns the name of what was there."""
    name: str = await conn.fetchval(
        "SELECT partition_name FROM list_partitions() WHERE table_name = $1 AND starts <= $2 AND $2 < ends",
        table,
        at,
    )
    await conn.execute(f"DROP TABLE {name}")
    return name


async def test_a_migrated_database_is_ahead(owner: asyncpg.Connection) -> None:
    plan = await partitions.plan(owner)
    assert plan.is_done
    assert plan.ahead == {**dict.fromkeys(MONTHLY, 3), "event_claims": 2}
    assert await partitions.months_ahead(owner) == 3
    assert all(partition.owned for partition in plan.partitions)


async def test_months_are_utc_whatever_the_session_says(owner: asyncpg.Connection) -> None:
    await owner.execute("SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'")
    start = (datetime.now(UTC) - timedelta(days=180)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    end = (start + timedelta(days=32)).replace(day=1)
    made = await partitions.repair(owner, "tasks", end - timedelta(hours=1))
    assert made == [f"tasks_{start:%Y_%m}"]
    (partition,) = [p for p in (await partitions.plan(owner)).partitions if p.name in made]
    assert (partition.starts, partition.ends) == (start, end)


async def test_the_plan_follows_the_clock(owner: asyncpg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(days=70)
    missing = await owner.fetch("SELECT * FROM partition_plan($1) WHERE state = 'missing'", later)
    assert {row["table_name"] for row in missing} == {*MONTHLY, "event_claims"}
    made = await owner.fetch("SELECT create_partitions_at($1)", later)
    assert len(made) == len(missing)
    assert await owner.fetch("SELECT create_partitions_at($1)", later) == []
    assert await owner.fetchval("SELECT min(ahead) FROM partitions_ahead($1)", later) == 2


async def test_partitions_have_their_tables_storage_and_indexes(owner: asyncpg.Connection) -> None:
    """What LIKE copies became part of the parent's indexes; what it does not copy was set."""
    strays = await owner.fetch(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN list_partitions() l ON to_regclass(l.partition_name) = i.indrelid"
        " WHERE NOT c.relispartition"
    )
    assert strays == []
    options = await owner.fetch(
        "SELECT t.storage, c.reloptions FROM list_partitions() l JOIN partitioned_tables t USING (table_name)"
        " JOIN pg_class c ON c.oid = to_regclass(l.partition_name)"
    )
    for row in options:
        assert ", ".join(row["reloptions"]).replace("=", " = ") == row["storage"]


async def test_what_nothing_searches_by_is_analyzed_in_no_partition(owner: asyncpg.Connection) -> None:
    await owner.fetch("SELECT create_partitions_at($1)", datetime.now(UTC) + timedelta(days=40))
    rows = await owner.fetch(
        "SELECT p.table_name, array_agg(a.attname::text ORDER BY a.attname) AS columns "
        "FROM list_partitions() p LEFT JOIN pg_attribute a "
        "ON a.attrelid = p.partition_name::regclass AND a.attstattarget = 0 AND a.attnum > 0 "
        "GROUP BY p.table_name, p.partition_name"
    )
    found = {(row["table_name"], tuple(row["columns"])) for row in rows}
    assert len(found) == len(MONTHLY) + 1, "the same in each partition of a table"
    unsearched = dict(found)
    assert unsearched["event_history"] == ("batch_id", "data", "event_id", "trace_id")
    assert {"payload", "result", "error"} < set(unsearched["tasks"])
    indexed = await owner.fetch(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
        "AND a.attnum = ANY(i.indkey) WHERE a.attstattarget = 0"
    )
    assert indexed == []


async def test_nobody_makes_a_partition_far_away(writer: asyncpg.Connection) -> None:
    before = {table: await names(writer, table) for table in MONTHLY}
    for table, year in product(MONTHLY, (1, 1990, 2099, 9999)):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="has no place"):
            await partitions.repair(writer, table, datetime(year, 6, 1, tzinfo=UTC))
    assert {table: await names(writer, table) for table in MONTHLY} == before


async def test_infinity_and_null_are_refused(writer: asyncpg.Connection) -> None:
    for at in ("'infinity'", "'-infinity'", "NULL"):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await writer.fetch(f"SELECT repair_partition('tasks', {at})")


async def test_the_allowed_window_ends_where_it_says(writer: asyncpg.Connection) -> None:
    floor = await partitions.floor(writer)
    assert timedelta(days=365) <= datetime.now(UTC) - floor <= timedelta(days=398)
    assert await partitions.repair(writer, "tasks", floor) == [f"tasks_{floor:%Y_%m}"]
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await partitions.repair(writer, "tasks", floor - timedelta(microseconds=1))
    await partitions.repair(writer, "tasks", datetime.now(UTC) + timedelta(days=28))
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await partitions.repair(writer, "tasks", datetime.now(UTC) + timedelta(days=33))


async def test_only_registered_tables_are_repaired(writer: asyncpg.Connection) -> None:
    for table in ("sessions", "partitioned_tables", "tasks; DROP TABLE tasks", ""):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="partitioned_tables"):
            await partitions.repair(writer, table, datetime.now(UTC))


async def test_a_hole_is_repaired_by_the_writer(
    owner: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    name = await remove(owner, "tasks", now)
    assert await partitions.months_ahead(owner) == -1
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await writer.execute(INSERT_TASK, uuid4(), now)
    assert (caught.value.table_name, caught.value.constraint_name) == ("tasks", None)
    assert await partitions.repair(writer, "tasks", now) == [name]
    assert await partitions.repair(writer, "tasks", now) == []
    await writer.execute(INSERT_TASK, uuid4(), now)
    assert await partitions.months_ahead(owner) == 3


async def test_a_hole_in_the_claims_is_repaired(
    owner: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    name = await remove(owner, "event_claims", now)
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await writer.fetch("SELECT claim_events(ARRAY[gen_random_uuid()])")
    assert (caught.value.table_name, caught.value.constraint_name) == ("event_claims", None)
    # The date of the event that met the hole says nothing about the window.
    assert await partitions.repair(writer, "event_claims", now - timedelta(days=100)) == [name]
    assert len(await writer.fetch("SELECT claim_events(ARRAY[gen_random_uuid()])")) == 1


async def test_writers_notice_nothing(database: asyncpg.Pool, owner: asyncpg.Connection) -> None:
    """Partitions are made, and old ones retired, while transactions that write stay open; no write fails,
    and none waits: each has a lock_timeout shorter than any DDL would need."""
    now = datetime.now(UTC)
    for months in range(14, 18):
        await owner.fetch("SELECT create_partition('tasks', $1)", now - timedelta(days=31 * months))
    stop = asyncio.Event()
    written: asyncio.Queue[None] = asyncio.Queue()

    async def write() -> None:
        async with database.acquire() as conn:
            await conn.execute("SET lock_timeout = '200ms'")
            while not stop.is_set():
                async with conn.transaction():
                    task = uuid4()
                    await conn.execute(INSERT_TASK, task, now)
                    await conn.execute("UPDATE tasks SET progress = 1 WHERE id = $1", task)
                written.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write()) for _ in range(3)]
        await owner.fetch("SELECT create_partitions_at($1)", now + timedelta(days=500))
        done = await partitions.apply(owner)
        for _ in range(written.qsize() + 10):
            await asyncio.wait_for(written.get(), 10)
        stop.set()
    assert [writer.exception() for writer in writers] == [None] * 3
    assert len(done.detached) == 4
    assert done.left == []


async def test_an_open_transaction_does_not_stop_repair(
    owner: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    async with writer.transaction():
        await writer.execute(INSERT_TASK, uuid4(), datetime.now(UTC))
        assert await partitions.repair(owner, "tasks", await partitions.floor(owner))


async def test_many_callers_make_each_partition_once(
    database: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    later = datetime.now(UTC) + timedelta(days=300)

    async def make() -> list[str]:
        rows = await database.fetch("SELECT name FROM create_partitions_at($1) AS name", later)
        return [row["name"] for row in rows]

    made = [name for batch in await asyncio.gather(*(make() for _ in range(4))) for name in batch]
    assert len(made) == len(set(made)) > 20
    assert await owner.fetchval("SELECT count(*) FROM partition_plan($1) WHERE state = 'missing'", later) == 0


async def test_old_months_are_detached_and_can_come_back(owner: asyncpg.Connection) -> None:
    old = datetime.now(UTC) - timedelta(days=31 * 20)
    name = await owner.fetchval("SELECT create_partition('tasks', $1)", old)
    await owner.execute(INSERT_TASK, uuid4(), old)
    assert [p.name for p in (await partitions.plan(owner)).detach] == [name]

    done = await partitions.apply(owner)
    assert (done.detached, done.dropped) == ([name], [])
    assert name not in await names(owner, "tasks")
    assert await owner.fetchval(f"SELECT count(*) FROM {name}") == 1
    assert (await partitions.plan(owner)).is_done

    await owner.execute("UPDATE partitioned_tables SET retention = 36 WHERE table_name = 'tasks'")
    assert await partitions.repair(owner, "tasks", old) == [name]
    assert await owner.fetchval("SELECT count(*) FROM tasks") == 1


async def test_old_history_and_claims_are_dropped(owner: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    old = [
        await owner.fetchval("SELECT create_partition('event_history', $1)", now - timedelta(days=31 * 20)),
        await owner.fetchval("SELECT create_partition('event_claims', $1)", now - timedelta(days=60)),
    ]
    current = await names(owner, "event_claims")
    done = await partitions.apply(owner)
    assert sorted(done.dropped) == sorted(old)
    assert await names(owner, "event_claims") == [name for name in current if name not in old]
    for name in old:
        assert await owner.fetchval(DETACHED, name) == 0


async def test_what_an_interrupted_retirement_left_is_finished(owner: asyncpg.Connection) -> None:
    """Detached, and then the process ended before it could drop."""
    old = datetime.now(UTC) - timedelta(days=60)
    name = await owner.fetchval("SELECT create_partition('event_claims', $1)", old)
    await owner.execute(f"ALTER TABLE event_claims DETACH PARTITION {name}")
    assert [p.name for p in (await partitions.plan(owner)).drop] == [name]
    done = await partitions.apply(owner)
    assert (done.detached, done.dropped) == ([], [name])
    assert await owner.fetchval(DETACHED, name) == 0


async def test_a_detach_that_was_cut_off_is_finalized(
    database: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    old = datetime.now(UTC) - timedelta(days=31 * 20)
    name = await owner.fetchval("SELECT create_partition('votes', $1)", old)
    async with database.acquire() as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT FROM votes")
        await owner.execute("SET lock_timeout = '50ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await owner.execute(f"ALTER TABLE votes DETACH PARTITION {name} CONCURRENTLY")
        await transaction.rollback()
    plan = await partitions.plan(owner)
    assert [p.state for p in plan.detach] == [partitions.State.DETACHING]
    assert (await partitions.apply(owner)).detached == [name]


async def test_a_worker_leaves_retirement_to_the_owner(
    owner: asyncpg.Connection, writer: asyncpg.Connection
) -> None:
    old = datetime.now(UTC) - timedelta(days=31 * 20)
    name = await owner.fetchval("SELECT create_partition('tasks', $1)", old)
    await remove(owner, "rounds", datetime.now(UTC) + timedelta(days=31))
    done = await partitions.apply(writer)
    assert len(done.created) == 1
    assert done.left == [name]
    assert name in await names(owner, "tasks")


async def test_the_keeper_goes_on_after_an_error(database_url: str, database: asyncpg.Pool) -> None:
    """Interval after a pass that worked, a shorter wait after one that did not."""
    waits: asyncio.Queue[float] = asyncio.Queue()
    go = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        await waits.put(seconds)
        await go.acquire()

    nowhere = urlunsplit(urlsplit(database_url)._replace(path="/postgres"))
    async with asyncpg.create_pool(nowhere, min_size=0, max_size=1) as unmigrated:
        metrics = Metrics()
        keeper = partitions.PartitionKeeper(unmigrated, metrics, sleep=sleep)
        task = asyncio.create_task(keeper.run())
        assert await asyncio.wait_for(waits.get(), 10) == 60.0
        keeper._pool = database  # the database is migrated at last
        go.release()
        assert await asyncio.wait_for(waits.get(), 10) == 3600.0
        assert min(keeper.ahead.values()) == 2
        gauge = metrics.registry.get_sample_value("streams_partitions_ahead_months", {"table": "tasks"})
        assert gauge == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
