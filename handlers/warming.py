"""Warming: what readers will ask for first is in Redis before they come.

A warm fill is a fill: each key goes through the cache's own protocol, which takes the lease before the load,
so that nothing it stores is older than an invalidation that was applied. A chunk of keys is one statement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Protocol

import structlog

from handlers.board_builds import Locks, build
from handlers.board_store import BoardStore, Meter
from handlers.boards import boards_at
from handlers.paging import encode
from handlers.reads import SESSION_SECONDS
from handlers.together import AGENTS_BY_ID
from schemas.cache import Ttl, agent_key, session_token_key
from schemas.errors import LockTaken, StreamsError

log = structlog.get_logger(__name__)

ACTIVE_SESSIONS: Final = """
SELECT token_hash FROM sessions WHERE expires_at > now() ORDER BY created_at DESC LIMIT $1
"""
SESSIONS: Final = """
SELECT token_hash, id, user_id, roles, expires_at FROM sessions
WHERE token_hash = ANY($1::bytea[]) AND expires_at > now()
"""
ACTIVE_AGENTS: Final = "SELECT id FROM agents WHERE status = 'active' ORDER BY updated_at DESC LIMIT $1"
_CHUNK: Final = 32  # at once: requests need connections to Redis, too
_TELL_EVERY: Final = 1000

LoadMany = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
Progress = Callable[[str, int, int], None]
"""Told what is being warmed, how many of it are done, and of how many."""


class Cache(Protocol):
    """What warming needs of `streams.cache.Cache`."""

    async def fill(self, keys: Sequence[str], load: LoadMany, *, ttl: int) -> Mapping[str, bytes]: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What warming may take.

    Args:
        rows: sessions, and agents, at most.
        bytes: of values, at most (one chunk more).
        seconds: until it stops wherever it is.
    """

    rows: int = 5_000
    bytes: int = 16 * 1024 * 1024
    seconds: float = 30.0


@dataclass(slots=True)
class Report:
    """What was done; `ended` is `done`, `time`, `bytes`, or `taken` where another process is warming."""

    sessions: int = 0
    agents: int = 0
    leaderboards: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    ended: str = "done"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Warmer:
    """Warms sessions, agents and leaderboards, in one process at a time.

    Args:
        pool: of the primary.
    """

    def __init__(
        self,
        pool: Any,
        cache: Cache,
        redis: Any,
        locks: Locks,
        bounds: Bounds | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._pool = pool
        self._cache = cache
        self._store = BoardStore(redis, meter)
        self._locks = locks
        self._bounds = bounds or Bounds()

    async def run(self, progress: Progress | None = None) -> Report:
        """Warm everything; whoever finds somebody else at it does nothing.

        Raises:
            redis.RedisError, asyncpg.PostgresError, OSError: a server does not answer.
        """
        report, started = Report(), time.monotonic()
        tell = progress or _log_progress
        try:
            async with self._locks.hold("warming", at_most=self._bounds.seconds):
                async with asyncio.timeout(self._bounds.seconds):
                    await self._leaderboards(report, tell)
                    report.sessions = await self._sessions(report, tell)
                    report.agents = await self._agents(report, tell)
        except LockTaken:
            report.ended = "taken"
        except TimeoutError:
            report.ended = "time"
        report.seconds = round(time.monotonic() - started, 3)
        log.info("caches are warm" if report.ended == "done" else "warming ended early", **report.as_json())
        return report

    async def _sessions(self, report: Report, tell: Progress) -> int:
        rows = await self._pool.fetch(ACTIVE_SESSIONS, self._bounds.rows)
        hashes = {session_token_key(row[0]): row[0] for row in rows}

        async def load(keys: Sequence[str]) -> Mapping[str, bytes]:
            found = [dict(row) for row in await self._pool.fetch(SESSIONS, [hashes[key] for key in keys])]
            return {session_token_key(row.pop("token_hash")): encode(row) for row in found}

        return await self._fill("sessions", list(hashes), load, SESSION_SECONDS, report, tell)

    async def _agents(self, report: Report, tell: Progress) -> int:
        rows = await self._pool.fetch(ACTIVE_AGENTS, self._bounds.rows)
        ids = {agent_key(row[0]): row[0] for row in rows}

        async def load(keys: Sequence[str]) -> Mapping[str, bytes]:
            found = await self._pool.fetch(AGENTS_BY_ID, [ids[key] for key in keys])
            return {agent_key(row["id"]): encode(dict(row)) for row in found}

        return await self._fill("agents", list(ids), load, Ttl.AGENT_STATE, report, tell)

    async def _leaderboards(self, report: Report, tell: Progress) -> None:
        boards = boards_at(datetime.now(UTC))
        for number, board in enumerate(boards):
            if await self._store.top(board, 1) is None:
                try:
                    report.leaderboards[board.name] = await build(self._pool, self._store, self._locks, board)
                except StreamsError as error:  # somebody else builds it, or it is too large to be kept
                    log.info("a leaderboard was left out", board=board.name, why=str(error))
            tell("leaderboards", number + 1, len(boards))

    async def _fill(
        self, what: str, keys: Sequence[str], load: LoadMany, ttl: int, report: Report, tell: Progress
    ) -> int:
        """Fill keys that hold nothing; returns how many were loaded."""
        loaded = 0
        left = iter(keys)
        done, tell_at = 0, _TELL_EVERY
        while chunk := list(islice(left, _CHUNK)):
            if report.bytes >= self._bounds.bytes:
                report.ended = "bytes"
                break
            found = await self._cache.fill(chunk, load, ttl=ttl)
            loaded += len(found)
            report.bytes += sum(map(len, found.values()))
            done += len(chunk)
            if done >= tell_at or done == len(keys):
                tell(what, done, len(keys))
                tell_at += _TELL_EVERY
        return loaded


def _log_progress(what: str, done: int, of: int) -> None:
    log.info("warming", what=what, done=done, of=of)
