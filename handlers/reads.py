"""What is cached, under which key and tags, for how long: one method for each thing that is read.

A value is cached only under a key or tags that the handlers name whenever it changes (docs/caching.md
has the table); what no tag covers is read from the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from handlers import views
from handlers.boards import Board
from handlers.leaderboards import Leaderboards, neighbours
from handlers.lists import AgentFilters, Lists, RoundFilters, TaskFilters
from handlers.paging import Body, PageRequest, Row, encode
from handlers.periods import today
from handlers.queries import Queries
from schemas.cache import (
    AGENTS_TAG,
    LEADERBOARDS_TAG,
    Period,
    Ttl,
    agent_key,
    agent_stats_key,
    agent_tag,
    leaderboard_key,
    query_key,
    round_key,
    round_tag,
    session_token_key,
    task_key,
    ttl_by_age,
    user_tag,
    user_tasks_key,
)

SESSION_SECONDS: Final = 60
"""A session that its owner does not tell us is over stays usable for this long at most."""

_ENDED: Final = frozenset({"completed", "cancelled"})  # a failed task may start again


class Found(Protocol):
    """What a cache returns: the value, and whether it came from `memory`, `redis`, `database` or `bypass`."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def source(self) -> str: ...

    @property
    def stale(self) -> bool:
        """It may be older than an invalidation: the database does not answer."""
        ...


class Cache(Protocol):
    """What a reader needs of `streams.cache.Cache`."""

    async def get(
        self,
        key: str,
        load: Callable[[], Awaitable[bytes | None]],
        *,
        ttl: int | Callable[[bytes], int],
        tags: Sequence[str] = (),
    ) -> Found: ...

    async def ping(self) -> bool: ...

    @property
    def hears(self) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class Uncached:
    """Read from the database, since no tag says when it changes."""

    value: bytes | None
    source: str = "bypass"
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    user_id: UUID
    roles: tuple[str, ...]
    expires_at: datetime


class Reads:
    """The read side: JSON by what it is about. Raises what `Queries` and `Lists` raise."""

    def __init__(
        self, queries: Queries, lists: Lists, cache: Cache, leaderboards: Leaderboards | None = None
    ) -> None:
        self._queries = queries
        self._lists = lists
        self._leaderboards = leaderboards or Leaderboards()
        self._cache = cache

    async def agent(self, agent_id: UUID) -> Found:
        async def load() -> bytes | None:
            return _one(await self._queries.agent(agent_id))

        return await self._cache.get(agent_key(agent_id), load, ttl=Ttl.AGENT_STATE)

    async def agent_stats(self, agent_id: UUID) -> Found:
        """Kept for a minute at most, and never into the next day: it tells what happened today."""
        now = datetime.now(UTC)
        left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)

        async def load() -> bytes | None:
            return _one(await self._queries.agent_stats(agent_id, now.date()))

        return await self._cache.get(agent_stats_key(agent_id), load, ttl=min(Ttl.AGENT_METRICS, left))

    async def agents(self, filters: AgentFilters, page: PageRequest, names: tuple[str, ...]) -> Found:
        async def load() -> bytes | None:
            return (await self._lists.agents(filters, page, names)).encode()

        key = _digest("agents", astuple(filters), astuple(page), names)
        return await self._cache.get(key, load, ttl=Ttl.QUERY_RESULT, tags=[AGENTS_TAG])

    async def agents_with_tasks(
        self,
        filters: AgentFilters,
        page: PageRequest,
        names: tuple[str, ...],
        each: int,
        user_id: UUID | None,
    ) -> Found:
        """Never cached: which tags cover it is known only once it is read."""
        found = await self._lists.agents_with_tasks(filters, page, names, each, user_id)
        return Uncached(found.encode())

    async def task(self, task_id: UUID) -> Found:
        async def load() -> bytes | None:
            return _one(await self._queries.task(task_id))

        return await self._cache.get(task_key(task_id), load, ttl=task_ttl)

    async def tasks(self, filters: TaskFilters, page: PageRequest, names: tuple[str, ...]) -> Found:
        """Cached where the filters name an agent or a user.

        A change of a task is a change of its agent and of its user, as they were and as they are; so the
        tag of either covers every list that is confined to it.
        """

        async def load() -> bytes | None:
            return (await self._lists.tasks(filters, page, names)).encode()

        if filters.agent_id is not None:
            tags = [agent_tag(filters.agent_id)]
        elif filters.user_id is not None:
            tags = [user_tag(filters.user_id)]
        else:
            return Uncached(await load())
        key = _digest("tasks", astuple(filters), astuple(page), names)
        if filters.user_id is not None and _is_first_page(filters, page, names):
            key = user_tasks_key(filters.user_id)
        return await self._cache.get(key, load, ttl=Ttl.QUERY_RESULT, tags=tags)

    async def history(self, task_id: UUID, page: PageRequest, names: tuple[str, ...]) -> Found:
        """Never cached: an event that changes nothing about its task is history all the same."""
        return Uncached(_body(await self._lists.history(task_id, page, names)))

    async def rounds(self, filters: RoundFilters, page: PageRequest, names: tuple[str, ...]) -> Found:
        """Never cached: no tag covers a list of rounds."""
        return Uncached((await self._lists.rounds(filters, page, names)).encode())

    async def round(self, round_id: UUID) -> Found:
        async def load() -> bytes | None:
            return _one(await self._queries.round(round_id))

        tags = [round_tag(round_id)]
        return await self._cache.get(round_key(round_id), load, ttl=Ttl.QUERY_RESULT, tags=tags)

    async def votes(self, round_id: UUID, page: PageRequest, names: tuple[str, ...]) -> Found:
        async def load() -> bytes | None:
            return _body(await self._lists.votes(round_id, page, names))

        key = _digest("votes", round_id, astuple(page), names)
        return await self._cache.get(key, load, ttl=Ttl.QUERY_RESULT, tags=[round_tag(round_id)])

    async def leaderboard(self, period: Period) -> Found:
        """It shows names, too: hence the agents' tag beside that of the scores."""
        board = Board.at(period, today())

        async def load() -> bytes | None:
            top = await self._leaderboards.top(board)
            return encode(top or await self._queries.leaderboard(period, board.start))

        tags = [LEADERBOARDS_TAG, AGENTS_TAG]
        return await self._cache.get(
            leaderboard_key(period, board.start), load, ttl=Ttl.LEADERBOARD, tags=tags
        )

    async def neighbours(self, period: Period, agent_id: UUID, reach: int) -> Found:
        """An agent's rank, with those around it."""
        board = Board.at(period, today())

        async def load() -> bytes | None:
            standing = await self._leaderboards.around(board, agent_id, reach)
            if standing is None:
                standing = await self._queries.around(board, agent_id, reach)
            return _one(neighbours(board, agent_id, standing))

        key = _digest("neighbours", board.name, agent_id, reach)
        tags = [LEADERBOARDS_TAG, AGENTS_TAG]
        return await self._cache.get(key, load, ttl=Ttl.QUERY_RESULT, tags=tags)

    async def session(self, token_hash: bytes) -> Session | None:
        """The session that a token's SHA-256 belongs to, unless it is over."""

        async def load() -> bytes | None:
            return _one(await self._queries.session(token_hash))

        found = await self._cache.get(session_token_key(token_hash), load, ttl=SESSION_SECONDS)
        if found.value is None:
            return None
        row = orjson.loads(found.value)
        session = Session(
            UUID(row["user_id"]), tuple(row["roles"]), datetime.fromisoformat(row["expires_at"])
        )
        return session if session.expires_at > datetime.now(UTC) else None

    @property
    def hears(self) -> bool | None:
        """Whether values are held in memory, since invalidations are heard; None: they never are."""
        return self._cache.hears

    async def health(self) -> tuple[bool, bool]:
        """Whether the database and whether the cache answers."""
        try:
            await self._queries.ping()
        except Exception:  # noqa: BLE001 - whatever keeps it from answering
            return False, await self._cache.ping()
        return True, await self._cache.ping()


def task_ttl(value: bytes) -> int:
    """Seconds to keep a task: long once it has ended, else the longer the longer it has not changed."""
    task = orjson.loads(value)
    if task["status"] in _ENDED:
        return Ttl.TASK_RESULT
    return ttl_by_age((datetime.now(UTC) - datetime.fromisoformat(task["updated_at"])).total_seconds())


def _one(row: Row | None) -> bytes | None:
    return None if row is None else encode(row)


def _body(page: Body | None) -> bytes | None:
    return None if page is None else page.encode()


def _is_first_page(filters: TaskFilters, page: PageRequest, names: tuple[str, ...]) -> bool:
    plain = filters == TaskFilters(user_id=filters.user_id) and replace(page, sort=None) == PageRequest()
    return plain and page.sort in (None, "-created_at") and names == views.TASK_SUMMARY


def _digest(*parts: Any) -> str:
    return query_key(blake2b(encode(parts), digest_size=16).hexdigest())
