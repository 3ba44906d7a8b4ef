"""Leaderboards follow the scores: what an invalidation names is read anew and written into the boards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from handlers.board_lines import lines_of
from handlers.board_store import BoardStore, Meter
from handlers.boards import SKEW, Board, boards_at
from schemas.cache import AGENT_PREFIX, LEADERBOARDS_TAG, SCORE_PREFIX
from schemas.contract import RowReader
from schemas.errors import Unavailable
from schemas.invalidations import CacheInvalidated

log = structlog.get_logger(__name__)

_CHUNK: Final = 1000
_UNREADABLE: Final = (Unavailable, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Affected:
    """The agents whose scores or names have changed, by what invalidations name.

    `old` are those of whom a day before the current month may have changed.
    """

    def __init__(self, boards: list[Board], events: Iterable[CacheInvalidated]) -> None:
        month = max(board.since for board in boards if board.has_base)
        # Whoever told before that spoke of another month, and named days before that one only.
        recent = datetime.combine(month, time(), UTC) + 2 * SKEW
        self.agents: set[UUID] = set()
        self.old: set[UUID] = set()
        self.unknown = False
        """Scores changed, and nothing says whose."""
        for event in events:
            named = set(_ids(event.data.keys, AGENT_PREFIX))
            scored = set(_ids(event.data.tags, SCORE_PREFIX))
            self.agents |= named | scored
            self.old |= scored if event.time >= recent else named | scored
            self.unknown |= not named and not scored and LEADERBOARDS_TAG in event.data.tags


def _ids(names: Iterable[str], prefix: str) -> Iterator[UUID]:
    for name in names:
        if name.startswith(prefix):
            try:
                yield UUID(name[len(prefix) :].partition(":")[0])
            except ValueError:  # it has the form of a key, and belongs to no agent
                continue


async def follow(
    redis: Any, rows: RowReader | None, events: Iterable[CacheInvalidated], meter: Meter | None = None
) -> None:
    """Bring the boards up to date with what these invalidations tell of.

    A board that cannot be followed is dropped: readers then ask the database, and somebody builds it anew.

    Args:
        rows: reads from the primary; without it all boards that would change are dropped.

    Raises:
        redis.RedisError, OSError: boards may be out of date; do it again.
    """
    boards = boards_at(datetime.now(UTC))
    affected = Affected(boards, events)
    store = BoardStore(redis, meter)
    if rows is None or affected.unknown:
        if affected.agents or affected.unknown:
            await store.drop(boards)
        return
    agents = sorted(affected.agents)
    for start in range(0, len(agents), _CHUNK):
        await _follow(store, rows, boards, set(agents[start : start + _CHUNK]), affected.old)


async def _follow(
    store: BoardStore, rows: RowReader, boards: list[Board], agents: set[UUID], old: set[UUID]
) -> None:
    tickets = dict(zip(boards, await store.tickets(boards), strict=True))
    kept = {board: ticket for board, ticket in tickets.items() if ticket is not None}
    if not kept:
        return
    try:
        lines = await lines_of(rows, list(kept), agents, agents & old)
    except _UNREADABLE as error:
        log.warning("leaderboards were dropped: the database does not answer", error=type(error).__name__)
        await store.drop(kept)
        return
    await asyncio.gather(*(store.apply(board, ticket, lines[board]) for board, ticket in kept.items()))
