"""Leaderboards as they are read: from Redis where they are complete, else from the database.

Whoever finds a board incomplete has it built, in the background and once for all processes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog
from redis.exceptions import RedisError

from handlers.board_builds import Locks, build
from handlers.board_store import BoardStore
from handlers.boards import Board, Placed, Standing
from handlers.paging import Row
from handlers.views import Rank, names
from schemas.cache import Period
from schemas.errors import LockTaken, StreamsError

log = structlog.get_logger(__name__)

TOP: Final = 100
_FIELDS: Final = names(Rank)

_HOLD: Final = 1.0  # seconds without a question to a Redis that did not answer
_BUILD_EVERY: Final = 5.0  # seconds between two attempts of a process to build a board, at least
_REST: Final = 20  # times as long as the build took: boards that updaters drop are not built all day long
_AWAY: Final = (RedisError, OSError, TimeoutError)
_UNREADABLE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, RedisError)

# An agent and those around it. Every agent of the period is sorted: the way for when there is no board.
AROUND: Final = """
WITH sums AS (
    SELECT agent_id, sum(points) AS points, sum(completed) AS completed, sum(failed) AS failed,
        sum(agreed) AS agreed
    FROM agent_scores
    WHERE ($1::date IS NULL OR day >= $1) AND ($2::date IS NULL OR day < $2)
    GROUP BY agent_id
), ranked AS (
    SELECT *, rank() OVER (ORDER BY points DESC) AS rank, count(*) OVER () AS size,
        row_number() OVER (ORDER BY points DESC, agent_id) AS place
    FROM sums
)
SELECT r.rank, r.agent_id, a.name, r.points, r.completed, r.failed, r.agreed, r.size
FROM ranked me JOIN ranked r ON r.place BETWEEN me.place - $4 AND me.place + $4
LEFT JOIN agents a ON a.id = r.agent_id
WHERE me.agent_id = $3
ORDER BY r.place
"""


@dataclass(frozen=True)
class Neighbours:
    """An agent's place in a leaderboard with those around it; `agents` is how many have a place."""

    period: Period
    start: date | None
    end: date | None
    agent_id: UUID
    rank: int
    agents: int
    data: list[Rank]


class Leaderboards:
    """Leaderboards in Redis, read and built.

    Args:
        pool: of the primary.
        redis: None where there is none: then everything is read from the database.
    """

    def __init__(self, pool: Any, redis: Any = None, locks: Locks | None = None) -> None:
        self._pool = pool
        self._store = None if redis is None else BoardStore(redis)
        self._locks = locks
        self._away_until = 0.0
        self._not_before: dict[Board, float] = {}
        self._builds: set[asyncio.Task[None]] = set()

    async def top(self, board: Board) -> Row | None:
        """The best hundred; None if the database has to say."""
        standing = await self._ask(board, None, TOP)
        return None if standing is None else {**_head(board), "data": _ranks(standing.places)}

    async def around(self, board: Board, agent_id: UUID, reach: int) -> Row | None:
        """An agent and `reach` places before and after it; None for one without a place.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: neither Redis nor the database has an answer.
        """
        standing = await self._ask(board, agent_id, reach)
        if standing is None:
            standing = await self._sorted(board, agent_id, reach)
        rank = next((place.rank for place in standing.places if place.agent_id == agent_id), None)
        if rank is None:
            return None
        about = {"agent_id": agent_id, "rank": rank, "agents": standing.size}
        return {**_head(board), **about, "data": _ranks(standing.places)}

    async def close(self) -> None:
        """Break off builds: they leave nothing that is read."""
        for task in self._builds:
            task.cancel()
        if self._builds:
            await asyncio.wait(self._builds)

    async def _ask(self, board: Board, agent_id: UUID | None, count: int) -> Standing | None:
        if self._store is None or time.monotonic() < self._away_until:
            return None
        try:
            if agent_id is None:
                standing = await self._store.top(board, count)
            else:
                standing = await self._store.around(board, agent_id, count)
        except _AWAY as error:
            log.warning("a leaderboard is read from the database", error=type(error).__name__)
            self._away_until = time.monotonic() + _HOLD
            return None
        if standing is None:
            self._build_soon(board)
        return standing

    def _build_soon(self, board: Board) -> None:
        now = time.monotonic()
        if self._locks is None or now < self._not_before.get(board, 0.0):
            return
        self._not_before = {b: at for b, at in self._not_before.items() if at > now}
        self._not_before[board] = now + _BUILD_EVERY
        task = asyncio.create_task(self._build(board, self._locks))
        self._builds.add(task)
        task.add_done_callback(self._builds.discard)

    async def _build(self, board: Board, locks: Locks) -> None:
        assert self._store is not None
        started = time.monotonic()
        try:
            size = await build(self._pool, self._store, locks, board)
        except LockTaken:
            return
        except (StreamsError, *_UNREADABLE) as error:
            log.warning("a leaderboard was not built", board=board.name, error=type(error).__name__)
            return
        seconds = round(time.monotonic() - started, 3)
        self._not_before[board] = time.monotonic() + max(_BUILD_EVERY, _REST * seconds)
        log.info("a leaderboard was built", board=board.name, agents=size, seconds=seconds)

    async def _sorted(self, board: Board, agent_id: UUID, reach: int) -> Standing:
        async with self._pool.acquire(timeout=2.0) as connection:
            rows = await connection.fetch(AROUND, board.start, board.end, agent_id, reach)
        places = [Placed(**{k: v for k, v in row.items() if k != "size"}) for row in rows]
        return Standing(rows[0]["size"] if rows else 0, places)


def _head(board: Board) -> Row:
    return {"period": board.period, "start": board.start, "end": board.end}


def _ranks(places: list[Placed]) -> list[Row]:
    return [{name: getattr(place, name) for name in _FIELDS} for place in places]
