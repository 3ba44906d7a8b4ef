"""What each role may do, and what not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from streams import partitions

STATE = ("tasks", "rounds", "votes", "round_tallies", "agent_registry", "agents", "agent_scores")

DENIED = asyncpg.InsufficientPrivilegeError


@pytest.fixture
async def writer(database: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with database.acquire() as conn:
        await conn.execute("SET ROLE streams_writer")
        yield conn


@pytest.fixture
async def reader(database: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with database.acquire() as conn:
        await conn.execute("SET ROLE streams_reader")
        yield conn


async def test_the_migrator_owns_everything(database: asyncpg.Pool) -> None:
    others = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND relname !~ 'yoyo' AND pg_get_userbyid(relowner) <> 'streams_migrator'"
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND proname !~ '^grant_privileges' AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')"
        " AND pg_get_userbyid(proowner) <> 'streams_migrator'"
    )
    assert others == []


async def test_a_writer_does_its_work(writer: asyncpg.Connection) -> None:
    now, task, agent = datetime.now(UTC), uuid4(), uuid4()
    async with writer.transaction():
        assert len(await writer.fetch("SELECT claim_events(ARRAY[$1::uuid])", uuid4())) == 1
        await writer.execute("INSERT INTO tasks (id, created_at, updated_at) VALUES ($1, $2, $2)", task, now)
        await writer.fetch("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task)
        await writer.execute("UPDATE tasks SET status = 'completed' WHERE id = $1", task)
        await writer.execute("INSERT INTO agent_registry VALUES ($1)", agent)
        await writer.execute(
            "INSERT INTO agents (id, status, created_at, updated_at) VALUES ($1, 'active', $2, $2)",
            agent,
            now,
        )
        # Moves the row to the other partition: needs no right to delete.
        await writer.execute("UPDATE agents SET status = 'paused' WHERE id = $1", agent)
        await writer.copy_records_to_table(
            "event_history",
            columns=["time", "type", "source", "event_id", "batch_id", "data"],
            records=[(now, "t", "s", "e", uuid4(), "{}")],
        )
        await writer.execute("INSERT INTO outbox (batch_id, messages) VALUES ($1, '')", task)
        await writer.fetch("SELECT * FROM outbox FOR UPDATE SKIP LOCKED")
        await writer.execute("DELETE FROM outbox WHERE batch_id = $1", task)
    assert await partitions.months_ahead(writer) == 3
    assert (await partitions.apply(writer)).left == []


FORBIDDEN_TO_WRITERS = (
    *(f"DELETE FROM {table}" for table in (*STATE, "event_history")),
    *(f"TRUNCATE {table}" for table in (*STATE, "outbox", "event_history", "event_claims")),
    "UPDATE event_history SET type = 'forged'",
    "UPDATE outbox SET messages = ''",
    "DELETE FROM event_claims",
    "INSERT INTO event_claims VALUES (1, gen_random_uuid())",
    "SELECT claim_events_at(ARRAY[gen_random_uuid()], now())",
    "SELECT create_partition('tasks', now())",
    "SELECT create_partitions_at('2099-01-01')",
    "UPDATE partitioned_tables SET retention = 1",
    "UPDATE storage_settings SET max_skew = '7 days'",
    "SELECT token_hash FROM sessions",
    "CREATE TABLE mine (a integer)",
    "ALTER TABLE tasks ADD COLUMN mine text",
    "DROP TABLE tasks",
    "CREATE INDEX ON tasks (note)",
)


async def test_a_writer_may_not(writer: asyncpg.Connection) -> None:
    for statement in FORBIDDEN_TO_WRITERS:
        with pytest.raises(DENIED):
            await writer.execute(statement)


async def test_nobody_goes_around_a_table_through_its_partitions(
    database: asyncpg.Pool, writer: asyncpg.Connection
) -> None:
    rows = await database.fetch("SELECT partition_name FROM list_partitions()")
    for row in rows:
        with pytest.raises(DENIED):
            await writer.execute(f"DELETE FROM {row['partition_name']}")


async def test_a_reader_reads(reader: asyncpg.Connection) -> None:
    for table in (
        "tasks",
        "rounds",
        "votes",
        "round_tallies",
        "agents",
        "agent_scores",
        "event_history",
        "users",
    ):
        assert await reader.fetch(f"SELECT * FROM {table}") == []
    assert await reader.fetch("SELECT id, roles FROM sessions WHERE token_hash = 'x'") == []
    assert (await partitions.plan(reader)).is_done


FORBIDDEN_TO_READERS = (
    *(f"INSERT INTO {table} DEFAULT VALUES" for table in (*STATE, "event_history", "users", "sessions")),
    *(f"DELETE FROM {table}" for table in (*STATE, "event_history", "users", "sessions")),
    "UPDATE tasks SET status = 'failed'",
    "SELECT * FROM outbox",
    "SELECT * FROM event_claims",
    "SELECT claim_events(ARRAY[gen_random_uuid()])",
    "SELECT repair_partition('tasks', now())",
    "SELECT create_partitions()",
    "SELECT grant_privileges()",
    "CREATE TABLE mine (a integer)",
)


async def test_a_reader_may_not(reader: asyncpg.Connection) -> None:
    for statement in FORBIDDEN_TO_READERS:
        with pytest.raises(DENIED):
            await reader.execute(statement)
