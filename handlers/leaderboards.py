"""Leaderboards as they are read: from Redis where they are complete, else from the database.

Whoever finds a board incomplete has it built, in the background and once for all processes.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog
from redis.exceptions import RedisError

from handlers.board_builds import Locks, build
from handlers.board_store import BoardStore, Meter
from handlers.boards import Board, Placed, Standing
from handlers.paging import Row
from handlers.views import Rank, names
from schemas.errors import LockTaken, StreamsError

log = structlog.get_logger(__name__)

TOP: Final = 100
_FIELDS: Final = names(Rank)

_HOLD: Final = 1.0  # seconds without a question to a Redis that did not answer
_BUILD_EVERY: Final = 5.0  # seconds between two attempts of a process to build a board, at least
_REST: Final = 20  # times as long as the build took: boards that updaters drop are not built all day long
_AWAY: Final = (RedisError, OSError, TimeoutError)
_UNREADABLE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, RedisError)


class Leaderboards:
    """Leaderboards in Redis, read and built.

    Without arguments there are none: the database has to say everything.

    Args:
        pool: of the primary, to build from.
    """

    def __init__(
        self, pool: Any = None, redis: Any = None, locks: Locks | None = None, meter: Meter | None = None
    ) -> None:
        self._pool = pool
        self._store = None if redis is None else BoardStore(redis, meter)
        self._locks = locks
        self._away_until = 0.0
        self._not_before: dict[Board, float] = {}
        self._builds: set[asyncio.Task[None]] = set()

    async def top(self, board: Board) -> Row | None:
        """The best hundred; None if the database has to say."""
        standing = await self._ask(board, None, TOP)
        return None if standing is None else {**_head(board), "data": _ranks(standing.places)}

    async def around(self, board: Board, agent_id: UUID, reach: int) -> Standing | None:
        """An agent and `reach` places before and after it; None if the database has to say."""
        return await self._ask(board, agent_id, reach)

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


def neighbours(board: Board, agent_id: UUID, standing: Standing) -> Row | None:
    """What is answered for an agent; None for one without a place."""
    rank = next((place.rank for place in standing.places if place.agent_id == agent_id), None)
    if rank is None:
        return None
    about = {"agent_id": agent_id, "rank": rank, "agents": standing.size}
    return {**_head(board), **about, "data": _ranks(standing.places)}


def _head(board: Board) -> Row:
    return {"period": board.period, "start": board.start, "end": board.end}


def _ranks(places: list[Placed]) -> list[Row]:
    return [{name: getattr(place, name) for name in _FIELDS} for place in places]
