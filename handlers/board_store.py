"""Leaderboards in Redis: changed by many updaters in any order, built anew, read.

Why the order does not matter: an updater first takes a *ticket* from Redis, then reads the database, then
writes what it read with the ticket; of two values of an agent the one with the greater ticket stays. An
updater that heard of a commit takes its ticket after that commit. So whoever holds a greater one reads
after it, too, and what he writes has the commit in it; whoever holds a smaller one cannot undo it. A build
is the same with one ticket for all agents: updates that come meanwhile go into what is being built, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Any, Final, Protocol
from uuid import UUID

from handlers import board_scripts
from handlers.boards import Board, Line, Placed, Score, Standing
from schemas.errors import LockLost

_CHUNK: Final = 500  # agents in one script: a few milliseconds in which Redis serves nobody else
_BUILD_MS: Final = 600_000


class Meter(Protocol):
    """What becomes of boards, counted: see `streams.telemetry.boards`."""

    def updated(self, period: str, written: int, refused: int) -> None: ...

    def built(self, period: str, result: str) -> None: ...

    def dropped(self, period: str) -> None: ...

    def sized(self, period: str, since: date, agents: int) -> None: ...


class BoardStore:
    """The commands. Every method raises what redis-py raises; each may be repeated."""

    def __init__(self, redis: Any, meter: Meter | None = None) -> None:
        self._redis = redis
        self._meter = meter

    async def tickets(self, boards: Sequence[Board]) -> list[int | None]:
        """Permission to write what is read from the database from now on.

        None for a board that does not exist and is not being built: who builds it later reads all of that.
        """
        asked = (self._redis.eval(board_scripts.TICKET, 4, *board.keys) for board in boards)
        return [None if ticket is None else int(ticket) for ticket in await asyncio.gather(*asked)]

    async def apply(self, board: Board, ticket: int, lines: Sequence[Line]) -> None:
        """Write what was read after the ticket was taken; what the board knows better stays."""
        for chunk in _chunks(lines):
            args = (ticket, int(board.has_base), _ends(board), *_arguments(chunk))
            written, refused = await self._redis.eval(board_scripts.APPLY, 4, *board.keys, *args)
            if self._meter is not None:
                self._meter.updated(board.period, written, refused)

    async def drop(self, boards: Collection[Board]) -> None:
        """Forget boards, and whatever is being built."""
        found = await asyncio.gather(*(self._redis.unlink(*board.keys) for board in boards))
        for board, keys in zip(boards, found, strict=True):
            if keys and self._meter is not None:
                self._meter.dropped(board.period)

    async def begin(self, board: Board, fence: int) -> int:
        """Begin to build a board; returns the ticket to read the database by.

        Raises:
            LockLost: a later holder of the lock has begun, or the board was dropped.
        """
        ticket = await self._redis.eval(board_scripts.BEGIN, 4, *board.keys, fence, _BUILD_MS)
        if ticket is None:
            raise self._lost(board)
        return int(ticket)

    async def add(self, board: Board, fence: int, ticket: int, lines: Sequence[Line]) -> None:
        """Write a part of what is being built; raises what `begin` raises."""
        for chunk in _chunks(lines):
            args = (fence, _BUILD_MS, ticket, int(board.has_base), *_arguments(chunk))
            if not await self._redis.eval(board_scripts.ADD, 4, *board.keys, *args):
                raise self._lost(board)

    async def finish(self, board: Board, fence: int) -> int:
        """Put what was built in the board's place; returns how many agents it has.

        Raises what `add` raises.
        """
        size = await self._redis.eval(board_scripts.FINISH, 4, *board.keys, fence, _ends(board))
        if size < 0:
            raise self._lost(board)
        if self._meter is not None:
            self._meter.built(board.period, "done")
        self._sized(board, size)
        return int(size)

    async def top(self, board: Board, count: int) -> Standing | None:
        """The best; None if the board is not complete."""
        return await self._read(board, count)

    async def around(self, board: Board, agent_id: UUID, reach: int) -> Standing | None:
        """An agent and those before and after it, nobody if it has no place; None as above."""
        return await self._read(board, reach, str(agent_id))

    async def _read(self, board: Board, *args: object) -> Standing | None:
        standing = _standing(await self._redis.eval(board_scripts.READ, 2, *board.keys[:2], *args))
        if standing is not None:
            self._sized(board, standing.size)
        return standing

    def _sized(self, board: Board, size: int) -> None:
        if self._meter is not None:
            self._meter.sized(board.period, board.since, size)

    def _lost(self, board: Board) -> LockLost:
        if self._meter is not None:
            self._meter.built(board.period, "lost")
        return LockLost(f"a later build of the leaderboard {board.name} has begun, or it was dropped")


def _ends(board: Board) -> int:
    """Milliseconds since 1970."""
    return int(board.expires_at.timestamp() * 1000)


def _chunks(lines: Sequence[Line]) -> Iterable[Sequence[Line]]:
    for start in range(0, len(lines), _CHUNK):
        yield lines[start : start + _CHUNK]


def _arguments(lines: Sequence[Line]) -> Iterable[str]:
    for line in lines:
        yield str(line.agent_id)
        yield _text(line.recent) if line.recent else ""
        yield "" if not line.whole else _text(line.base) if line.base else "-"
        yield "" if line.name is None else f"={line.name}"


def _text(score: Score) -> str:
    return f"{score.points} {score.completed} {score.failed} {score.agreed}"


def _standing(found: Any) -> Standing | None:
    if found is None:
        return None
    size, first, rank, *rest = found
    places: list[Placed] = []
    for number, (member, row) in enumerate(zip(*rest, strict=True) if rest else ()):
        _tickets, recent, base, name = row.split(b"|", 3)
        score = [int(a) + int(b) for a, b in zip(recent.split(), base.split(), strict=True)]
        if places and score[0] != places[-1].points:
            rank = first + number + 1
        places.append(Placed(rank, UUID(member.decode()), name[1:].decode() if name else None, *score))
    return Standing(size, places)
