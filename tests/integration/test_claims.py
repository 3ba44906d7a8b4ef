"""De-duplication: one claim per key and window, and no gap at a rotation, whoever comes first."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from itertools import product
from uuid import UUID, uuid4

import asyncpg
import pytest

MINUTE = timedelta(minutes=1)

CLAIM_AT = "SELECT key FROM claim_events_at($1::uuid[], $2) AS key"


@pytest.fixture
async def rotation(database: asyncpg.Pool) -> datetime:
    """The next instant at which the window changes."""
    at: datetime = await database.fetchval("SELECT period_start('window', now(), 1)")
    return at


def keys(number: int) -> list[UUID]:
    return [uuid4() for _ in range(number)]


async def claim(conn: asyncpg.Connection | asyncpg.Pool, wanted: list[UUID], at: datetime) -> set[UUID]:
    return {row["key"] for row in await conn.fetch(CLAIM_AT, wanted, at)}


async def test_a_key_is_fresh_once(database: asyncpg.Pool) -> None:
    wanted = keys(20)
    claimed = "SELECT key FROM claim_events($1::uuid[]) AS key"
    first = [row["key"] for row in await database.fetch(claimed, wanted + wanted)]
    assert sorted(first) == sorted(wanted)
    assert await database.fetch(claimed, wanted) == []
    assert await database.fetch(claimed, []) == []


async def test_what_is_rolled_back_was_never_claimed(database: asyncpg.Pool, rotation: datetime) -> None:
    wanted = keys(3)
    async with database.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        assert await claim(conn, wanted, rotation) == set(wanted)
        await transaction.rollback()
        assert await claim(conn, wanted, rotation) == set(wanted)


async def test_a_key_is_known_for_a_whole_window_at_least(database: asyncpg.Pool, rotation: datetime) -> None:
    days = timedelta(days=await database.fetchval("SELECT dedup_window_days FROM storage_settings"))
    known, forgotten = keys(2), keys(2)
    for wanted in (known, forgotten):
        await claim(database, wanted[:1], rotation - days + timedelta(hours=1))
        await claim(database, wanted[1:], rotation - timedelta(hours=1))
    assert await claim(database, known, rotation + days - timedelta(hours=1)) == set()
    assert await claim(database, forgotten, rotation + days + timedelta(hours=1)) == set(forgotten)


# Minutes from the rotation: outside, at the edge of, and inside the overlap of 15 minutes.
OFFSETS = (-60, -15.01, -14.99, -0.01, 0, 0.01, 14.99, 15.01, 60)


async def test_one_after_the_other(database: asyncpg.Pool, rotation: datetime) -> None:
    """The second is never fresh, unless the clock went back by more than both overlaps together."""
    for earlier, later in product(OFFSETS, OFFSETS):
        wanted = keys(5)
        assert await claim(database, wanted, rotation + earlier * MINUTE) == set(wanted)
        second = await claim(database, wanted, rotation + later * MINUTE)
        if earlier - later <= 30:
            assert second == set(), (earlier, later)


async def test_two_at_once_never_both_see_a_key_as_fresh(database: asyncpg.Pool, rotation: datetime) -> None:
    """Two transactions on either side of a rotation: the second waits for the first to end."""
    async with database.acquire() as first, database.acquire() as second:
        for one, two in product(OFFSETS, OFFSETS):
            if abs(one - two) > 30:
                continue  # a transaction of more than 30 minutes
            wanted = keys(5)
            transaction = first.transaction()
            await transaction.start()
            assert await claim(first, wanted, rotation + one * MINUTE) == set(wanted)
            waiting = asyncio.create_task(claim(second, wanted, rotation + two * MINUTE))
            await until_blocked(database, second.get_server_pid())
            await transaction.commit()
            assert await waiting == set(), (one, two)


async def test_the_second_is_fresh_when_the_first_rolls_back(
    database: asyncpg.Pool, rotation: datetime
) -> None:
    wanted = keys(5)
    async with database.acquire() as first, database.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await claim(first, wanted, rotation - MINUTE)
        waiting = asyncio.create_task(claim(second, wanted, rotation + MINUTE))
        await until_blocked(database, second.get_server_pid())
        await transaction.rollback()
        assert await waiting == set(wanted)


async def test_many_at_once_around_a_rotation(database: asyncpg.Pool, rotation: datetime) -> None:
    """Eight writers, shuffled and overlapping batches, clocks on both sides: no key twice, no deadlock."""
    universe = keys(400)
    fresh: list[UUID] = []

    async def writer(number: int) -> None:
        for turn in range(10):
            batch = [universe[(number * 37 + turn * 53 + i * 7) % 400] for i in range(100)]
            at = rotation + ((number + turn) % 28 - 14) * MINUTE
            async with database.acquire() as conn, conn.transaction():
                fresh.extend(await claim(conn, batch, at))

    await asyncio.gather(*(writer(number) for number in range(8)))
    assert len(fresh) == len(set(fresh))
    assert set(fresh) == set(universe)


async def test_claims_go_by_index_and_are_quick(database: asyncpg.Pool) -> None:
    """500 keys in milliseconds, also when the plan was made while the windows were empty."""
    claimed = "SELECT count(*) FROM claim_events($1::uuid[])"
    async with database.acquire() as conn:
        for _ in range(8):  # past the fifth call PostgreSQL keeps the plan
            await conn.execute("SELECT count(*) FROM claim_events(ARRAY[gen_random_uuid()])")
        await conn.execute(
            "INSERT INTO event_claims SELECT (SELECT dedup_window(now()) - 1), gen_random_uuid()"
            " FROM generate_series(1, 100000)"
        )
        took = []
        for _ in range(30):
            batch = keys(500)
            started = time.perf_counter()
            await conn.fetchval(claimed, batch)
            took.append(time.perf_counter() - started)
        reads = await conn.fetchval(
            "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'event_claims%'"
        )
    assert reads == 0
    # A few milliseconds; seconds when each key is compared with all of the window before.
    assert min(took) < 0.1


async def until_blocked(database: asyncpg.Pool, pid: int) -> None:
    """Return once the backend waits for a lock that another transaction holds."""
    async with asyncio.timeout(10):
        while not await database.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
            pass
