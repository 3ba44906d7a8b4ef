"""Leaderboards built anew from PostgreSQL, by one process at a time, while updates go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from handlers.board_lines import all_lines
from handlers.board_store import BoardStore
from handlers.boards import Board
from schemas.errors import StreamsError

MAX_AGENTS: Final = 200_000
"""A larger board is not kept: at some 250 bytes for each agent it would take 50 MB of Redis."""

_CHUNK: Final = 1000
_AT_MOST: Final = 300.0  # seconds for a build

Progress = Callable[[int], None]
"""Told how many agents are written so far."""


class BoardTooLarge(StreamsError):
    """It has more agents than a board may have."""


class Held(Protocol):
    @property
    def fence(self) -> int: ...


class Locks(Protocol):
    """What builds need of `streams.locks.Locks`."""

    def hold(
        self, resource: str, *, wait: float = 0.0, at_most: float | None = None
    ) -> AbstractAsyncContextManager[Held]: ...


async def build(
    pool: Any,
    store: BoardStore,
    locks: Locks,
    board: Board,
    *,
    wait: float = 0.0,
    progress: Progress = lambda _: None,
) -> int:
    """Build a board and put it in the place of the one that stands; returns how many agents it has.

    Args:
        pool: of the primary.
        wait: seconds to wait for a build that is under way.

    Raises:
        LockTaken: somebody else is building it.
        LockLost: it was dropped meanwhile, or a later build has begun.
        BoardTooLarge: it is not kept.
        redis.RedisError, asyncpg.PostgresError, OSError: a server does not answer.
    """
    async with locks.hold(f"board:{board.name}", wait=wait, at_most=_AT_MOST) as lock:
        ticket = await store.begin(board, lock.fence)
        written = 0
        async with pool.acquire(timeout=5) as connection, connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {int(_AT_MOST * 1000)}")
            async for lines in all_lines(connection, board, _CHUNK, seconds=_AT_MOST):
                written += len(lines)
                if written > MAX_AGENTS:
                    await store.drop([board])
                    raise BoardTooLarge(f"the leaderboard {board.name} has more than {MAX_AGENTS} agents")
                await store.add(board, lock.fence, ticket, lines)
                progress(written)
        return await store.finish(board, lock.fence)
