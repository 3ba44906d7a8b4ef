"""Leaderboards in Redis say what SQL says: whatever the order of updates and builds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from handlers import scores
from handlers.board_builds import build
from handlers.board_store import BoardStore
from handlers.board_updates import follow
from handlers.boards import Board, Line, Score, Standing, boards_at
from handlers.queries import AROUND, LEADERBOARD
from schemas.contract import Changes
from schemas.errors import LockLost, LockTaken
from schemas.invalidations import CacheInvalidated, InvalidatedData
from streams.cache import connect_redis
from streams.locks import Locks
from streams.telemetry import Metrics

TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=back) for back in (0, 0, 0, 1, 3, 8, 33, 70)]
AGENTS = [uuid4() for _ in range(12)]
KINDS = list(scores.Kind)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(redis_url, "test-boards", timeout=20)
    yield client
    await client.aclose()


async def change(database: asyncpg.Pool, random: Random) -> list[CacheInvalidated]:
    """A batch that changes scores, sometimes a name; what the worker publishes for it."""
    deltas = scores.Deltas()
    for _ in range(random.randint(1, 5)):
        deltas.move(
            None, scores.Contribution(random.choice(AGENTS), random.choice(DAYS), random.choice(KINDS))
        )
    async with database.acquire() as connection, connection.transaction():
        changed = await scores.apply(connection, deltas)
        renamed = dict.fromkeys(random.sample(AGENTS, random.randint(0, 1)), TODAY)
        for agent_id in renamed:
            await connection.execute(
                "INSERT INTO agents (id, status, name, created_at, updated_at) "
                "VALUES ($1, 'active', $2, now(), now()) ON CONFLICT (id, status) DO UPDATE SET name = $2",
                agent_id, random.choice(["Ann", "Bo|b", "", "Zoë", None]),
            )  # fmt: skip
    return [told(scores.with_scores(Changes(), renamed | changed))]


def told(changes: Changes) -> CacheInvalidated:
    data = InvalidatedData(keys=tuple(changes.keys), tags=tuple(changes.tags))
    return CacheInvalidated(id=str(uuid4()), source="tests", time=datetime.now(UTC), data=data)


async def sorted_by_sql(database: asyncpg.Pool, board: Board) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await database.fetch(LEADERBOARD, board.start, board.end)]


def flat(standing: Standing | None) -> list[tuple[Any, ...]] | None:
    return None if standing is None else [
        (p.rank, p.agent_id, p.name, p.points, p.completed, p.failed, p.agreed) for p in standing.places
    ]  # fmt: skip


async def assert_right(database: asyncpg.Pool, store: BoardStore, *, complete: bool = True) -> int:
    """Boards that are complete say what SQL says; returns how many are."""
    found = 0
    for board in boards_at(datetime.now(UTC)):
        rows = flat(await store.top(board, 100))
        if rows is None:
            assert not complete, f"{board.name} is not complete"
            continue
        found += 1
        assert rows == await sorted_by_sql(database, board), board.name
    return found


class Late:
    """A database whose answers may be late: what is written in Redis meanwhile is newer."""

    def __init__(self, pool: asyncpg.Pool, random: Random) -> None:
        self._pool = pool
        self._random = random

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        rows = await self._pool.fetch(query, *args)
        for _ in range(self._random.randint(0, 6)):
            await self._pool.fetchval("SELECT 1")
        return rows


@pytest.mark.parametrize("seed", range(6))
async def test_two_updaters_and_builds_in_any_order_end_where_sql_does(
    database: asyncpg.Pool, client: Redis, seed: int
) -> None:
    random = Random(seed)
    store, locks, rows = BoardStore(client), Locks(client), Late(database, random)
    waiting: list[list[CacheInvalidated]] = []

    async def workers() -> None:
        for _ in range(25):
            waiting.append(await change(database, random))  # noqa: PERF401 - the others look at it meanwhile

    async def updater() -> None:
        for _ in range(20):
            if waiting:  # any of them, and it may come again
                events = random.choice(waiting)
                await follow(client, rows, events)
                if random.random() < 0.6 and events in waiting:
                    waiting.remove(events)
            else:
                await asyncio.sleep(0)

    async def builder() -> None:
        for _ in range(4):
            for board in boards_at(datetime.now(UTC)):
                try:
                    await build(database, store, locks, board)
                except (LockTaken, LockLost):
                    continue
            if random.random() < 0.3:
                await (
                    client.flushall() if random.random() < 0.5 else store.drop(boards_at(datetime.now(UTC)))
                )

    await asyncio.gather(workers(), updater(), updater(), builder(), builder())
    random.shuffle(waiting)
    await asyncio.gather(*(follow(client, rows, events) for events in [*waiting, *waiting[:5]]))
    await assert_right(database, store, complete=False)
    for board in boards_at(datetime.now(UTC)):
        await build(database, store, locks, board)
    assert await assert_right(database, store) >= 4


async def test_whatever_was_applied_is_in_the_boards(database: asyncpg.Pool, client: Redis) -> None:
    """Updaters overtake each other; once one of them has returned, its change is there for good."""
    random = Random(7)
    store, locks, rows = BoardStore(client), Locks(client), Late(database, random)
    for board in boards_at(datetime.now(UTC)):
        await build(database, store, locks, board)
    for _ in range(15):
        batches = [await change(database, random) for _ in range(4)]
        await asyncio.gather(*(follow(client, rows, events) for events in batches))
        assert await assert_right(database, store) >= 4


@pytest.mark.parametrize("lost", ["rank", "rows"])
async def test_a_board_that_lost_a_part_is_never_taken_for_complete(
    database: asyncpg.Pool, client: Redis, lost: str
) -> None:
    """Redis evicts keys one by one; updates that come afterwards must not make half a board look whole."""
    random = Random(1)
    store, locks = BoardStore(client), Locks(client)
    for _ in range(3):
        await change(database, random)
    board = Board.at(boards_at(datetime.now(UTC))[0].period, TODAY)
    assert await build(database, store, locks, board) > 1
    await client.delete(board.keys[("rank", "rows").index(lost)])
    assert await store.top(board, 100) is None
    await follow(client, database, await change(database, random))
    assert await store.top(board, 100) is None
    await build(database, store, locks, board)
    assert flat(await store.top(board, 100)) == await sorted_by_sql(database, board)


async def test_a_board_of_another_run_of_redis_is_not_complete(database: asyncpg.Pool, client: Redis) -> None:
    """A replica that took over, or a server that came back from its file, may lack what was applied."""
    store = BoardStore(client)
    await change(database, Random(1))
    board = boards_at(datetime.now(UTC))[0]
    await build(database, store, Locks(client), board)
    assert await store.top(board, 100) is not None
    await client.hset(board.keys[1], ".run", "0" * 40)
    assert await store.top(board, 100) is None


async def test_a_builder_that_lost_its_lock_is_refused(database: asyncpg.Pool, client: Redis) -> None:
    store, board = BoardStore(client), boards_at(datetime.now(UTC))[0]
    ticket = await store.begin(board, fence=10)
    await store.begin(board, fence=11)
    for step in (store.add(board, 10, ticket, []), store.finish(board, 10)):
        if step.cr_code.co_name == "add":
            await step  # nothing to write
        else:
            with pytest.raises(LockLost):
                await step
    assert await store.finish(board, 11) == 0
    with pytest.raises(LockLost):
        await store.begin(board, fence=10)
    assert await store.top(board, 100) is not None


async def test_when_the_database_is_silent_boards_are_dropped(database: asyncpg.Pool, client: Redis) -> None:
    class Silent:
        async def fetch(self, *_: object) -> list[Any]:
            raise TimeoutError

    store, random = BoardStore(client), Random(2)
    await change(database, random)
    for rows in (Silent(), None):
        for board in boards_at(datetime.now(UTC)):
            await build(database, store, Locks(client), board)
        await follow(client, rows, await change(database, random))
        for board in boards_at(datetime.now(UTC)):
            assert await store.top(board, 100) is None


async def test_an_agent_and_those_around_it_are_those_of_sql(database: asyncpg.Pool, client: Redis) -> None:
    random = Random(3)
    store = BoardStore(client)
    for _ in range(12):
        await change(database, random)
    for board in boards_at(datetime.now(UTC)):
        await build(database, store, Locks(client), board)
        for agent_id in [*AGENTS, uuid4()]:
            for reach in (0, 2, 50):
                found = await database.fetch(AROUND, board.start, board.end, agent_id, reach)
                standing = await store.around(board, agent_id, reach)
                assert flat(standing) == [tuple(row)[:-1] for row in found]
                if found:
                    assert standing is not None
                    assert standing.size == found[0]["size"]


async def test_what_becomes_of_a_board_is_counted(client: Redis) -> None:
    metrics = Metrics()
    store, board = BoardStore(client, metrics.boards), boards_at(datetime.now(UTC))[-1]

    def counted(name: str, **result: str) -> float | None:
        return metrics.registry.get_sample_value(f"streams_board_{name}", {"period": board.period, **result})

    await store.begin(board, fence=1)
    await store.finish(board, fence=1)
    early, late = [(await store.tickets([board]))[0] or 0 for _ in range(2)]
    await store.apply(board, late, [Line(agent, None, Score(2, 0, 0, 0)) for agent in AGENTS[:3]])
    await store.apply(board, early, [Line(agent, None, Score(1, 0, 0, 0)) for agent in AGENTS[2:5]])
    assert counted("updates_total", result="written") == 5
    assert counted("updates_total", result="refused") == 1
    await store.top(board, 1)
    assert counted("agents") == 5
    for key in board.keys[:2]:
        assert await client.pttl(key) > 0, "a board that was empty when it was built expires, too"
    await store.begin(board, fence=3)
    await store.apply(board, late, [Line(AGENTS[5], None, Score(1, 0, 0, 0))])
    assert counted("updates_total", result="written") == 6
    assert counted("updates_total", result="refused") == 2, "what is being built is later than that"
    with pytest.raises(LockLost):
        await store.finish(board, fence=2)
    assert (counted("builds_total", result="done"), counted("builds_total", result="lost")) == (1, 1)
    for _ in range(2):
        await store.drop([board])
    assert counted("drops_total") == 1, "the second time there was nothing to be dropped"
    metrics.boards.sized(board.period, board.since - timedelta(days=1), 100)
    assert counted("agents") == 5, "of the latest board"


def test_around_midnight_there_are_the_boards_of_both_days() -> None:
    noon = boards_at(datetime(2026, 11, 30, 12, tzinfo=UTC))
    assert [board.name for board in noon] == [
        "daily:2026-11-30", "weekly:2026-11-30", "monthly:2026-11-01", "all_time:2026-11-01",
    ]  # fmt: skip
    midnight = boards_at(datetime(2026, 11, 30, 23, 57, tzinfo=UTC))
    assert {board.name for board in midnight} == {board.name for board in noon} | {
        "daily:2026-12-01", "monthly:2026-12-01", "all_time:2026-12-01",
    }  # fmt: skip
    assert [board.start for board in noon][-1] is None
    assert isinstance(noon[0].start, date)
    assert isinstance(AGENTS[0], UUID)


async def test_of_two_readings_the_one_with_the_later_ticket_stays(client: Redis) -> None:
    """Whatever the order in which they are written, and each of the two sums by itself."""
    store, agent = BoardStore(client), AGENTS[0]
    board = next(board for board in boards_at(datetime.now(UTC)) if board.has_base)
    for order in ((0, 1), (1, 0), (0, 1, 0), (1, 0, 1)):
        await store.drop([board])
        await store.begin(board, fence=1)
        await store.finish(board, fence=1)
        early, late = [(await store.tickets([board]))[0] for _ in range(2)]
        assert early is not None
        assert late is not None
        writes = [
            (early, Line(agent, "old", Score(1, 0, 0, 0), Score(100, 0, 0, 0), whole=True)),
            (late, Line(agent, "new", Score(2, 0, 0, 0))),
        ]
        for number in order:
            await store.apply(board, writes[number][0], [writes[number][1]])
        assert flat(await store.top(board, 9)) == [(1, agent, "new", 102, 0, 0, 0)], order
