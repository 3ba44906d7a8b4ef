"""The read side's SQL, against the primary.

Statements are put together from code-owned parts only; whatever came with a request is a parameter.
Lists go by keyset: a page begins after the last row of the one before, whatever was inserted meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from handlers import views
from handlers.paging import MAX_PAGE_BYTES, Page, Position, Row, decode_cursor
from schemas.agents import AgentStatus
from schemas.cache import Period
from schemas.fields import dated

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_JSON: Final = frozenset({"payload", "result", "error", "data", "decided_tally"})

AGENT_BY_ID: Final = f"SELECT {', '.join(views.AGENT)} FROM agents WHERE id = $1"  # noqa: S608

# The creation time is in the id: one partition is looked at.
TASK_BY_ID: Final = f"SELECT {', '.join(views.TASK)} FROM tasks WHERE id = $1 AND created_at = $2"  # noqa: S608

# A round with its tallies in one statement, hence of one moment.
ROUND_BY_ID: Final = """
SELECT r.id, r.created_at, r.task_id, r.options, r.quorum, r.opened_at, r.closes_at, r.closed_at,
    r.decided_choice, r.decided_at, r.decided_votes, r.decided_tally,
    t.choice AS tally_choice, t.weight AS tally_weight, t.votes AS tally_votes
FROM rounds r
LEFT JOIN round_tallies t ON t.round_id = r.id AND t.created_at = r.created_at AND t.votes > 0
WHERE r.id = $1 AND r.created_at = $2
ORDER BY t.weight DESC, t.choice
"""

ROUND_EXISTS: Final = "SELECT 1 FROM rounds WHERE id = $1 AND created_at = $2"
TASK_EXISTS: Final = "SELECT 1 FROM tasks WHERE id = $1 AND created_at = $2"

# Stops reading large events once a page is full; sizes are those stored, so nothing is unpacked for it.
HISTORY_PAGE: Final = """
SELECT time, type, source, event_id AS id, data, recorded_at, trace_id, available FROM (
    SELECT *, count(*) OVER () AS available,
        sum(pg_column_size(data)) OVER (ORDER BY time, source, event_id ROWS UNBOUNDED PRECEDING)
            - pg_column_size(data) AS before
    FROM (
        SELECT time, type, source, event_id, data, recorded_at, trace_id FROM event_history
        WHERE {where} ORDER BY time, source, event_id LIMIT {limit}
    ) page
) sized
WHERE before < {bytes} ORDER BY time, source, event_id
"""

# Names come after the limit: a hundred look-ups instead of one per agent.
LEADERBOARD: Final = """
SELECT rank, agent_id, a.name, points, completed, failed, agreed FROM (
    SELECT rank() OVER (ORDER BY sum(points) DESC) AS rank, agent_id, sum(points) AS points,
        sum(completed) AS completed, sum(failed) AS failed, sum(agreed) AS agreed
    FROM agent_scores
    WHERE ($1::date IS NULL OR day >= $1) AND ($2::date IS NULL OR day < $2)
    GROUP BY agent_id ORDER BY points DESC, agent_id LIMIT 100
) best
LEFT JOIN agents a ON a.id = best.agent_id
ORDER BY points DESC, agent_id
"""

SESSION_BY_HASH: Final = """
SELECT id, user_id, roles, expires_at FROM sessions WHERE token_hash = $1 AND expires_at > now()
"""


@dataclass(frozen=True, slots=True)
class TaskFilters:
    """Which tasks; `created_from` is inclusive, `created_before` is not."""

    status: views.TaskStatus | None = None
    agent_id: UUID | None = None
    user_id: UUID | None = None
    kind: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class AgentFilters:
    status: AgentStatus | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    limit: int = 20
    cursor: str | None = None


class Where:
    """Conditions joined by AND; `{}` in a term is where a value's placeholder goes."""

    def __init__(self) -> None:
        self._terms: list[str] = ["true"]
        self.values: list[Any] = []

    def add(self, term: str, *values: Any) -> None:
        self._terms.append(term.format(*map(self.value, values)))

    def add_given(self, term: str, value: Any) -> None:
        if value is not None:
            self.add(term, value)

    def value(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def __str__(self) -> str:
        return " AND ".join(self._terms)


class Queries:
    """Reads, each of them one statement.

    Args:
        wait: seconds to wait for a connection.

    Raises:
        TimeoutError: no connection became free, or the statement took longer than the pool allows.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the server is not there.
    """

    def __init__(self, pool: Pool, *, wait: float = 2.0) -> None:
        self._pool = pool
        self._wait = wait

    async def agent(self, agent_id: UUID) -> Row | None:
        return await self._row(AGENT_BY_ID, agent_id)

    async def agents(self, filters: AgentFilters, page: PageRequest, names: tuple[str, ...]) -> Page:
        """Agents in the order of their ids."""
        where = Where()
        where.add_given("status = {}", filters.status)
        where.add_given("is_active = {}", filters.is_active)
        if page.cursor is not None:
            where.add("id > {}", *decode_cursor(page.cursor, (UUID,)))
        selected = _with(names, "id")
        statement = (
            f"SELECT {', '.join(selected)} FROM agents WHERE {where} "  # noqa: S608 - code-owned parts
            f"ORDER BY id LIMIT {where.value(page.limit + 1)}"
        )
        rows = await self._rows(statement, *where.values)
        return Page(rows, page.limit, len(rows), _agent_position, frozenset(selected) - set(names))

    async def task(self, task_id: UUID) -> Row | None:
        created_at = instant_of(task_id)
        return None if created_at is None else await self._row(TASK_BY_ID, task_id, created_at)

    async def tasks(self, filters: TaskFilters, page: PageRequest, names: tuple[str, ...]) -> Page:
        """Tasks, the newest first."""
        where = Where()
        where.add_given("agent_id = {}", filters.agent_id)
        where.add_given("user_id = {}", filters.user_id)
        where.add_given("status = {}", filters.status)
        where.add_given("kind = {}", filters.kind)
        where.add_given("created_at >= {}", filters.created_from)
        where.add_given("created_at < {}", filters.created_before)
        if page.cursor is not None:
            created_at, task_id = decode_cursor(page.cursor, (datetime, UUID))
            # PostgreSQL prunes partitions by the first term, and not by the comparison of rows.
            where.add("created_at <= {}", created_at)
            where.add("(created_at, id) < ({}, {})", created_at, task_id)
        selected = _with(names, "created_at", "id")
        statement = (
            f"SELECT {', '.join(selected)} FROM tasks WHERE {where} "  # noqa: S608 - code-owned parts
            f"ORDER BY created_at DESC, id DESC LIMIT {where.value(page.limit + 1)}"
        )
        rows = await self._rows(statement, *where.values)
        return Page(rows, page.limit, len(rows), _task_position, frozenset(selected) - set(names))

    async def history(self, task_id: UUID, page: PageRequest) -> Page | None:
        """A task's events in the order of their times; None for a task that does not exist."""
        where = Where()
        where.add("entity_id = {}", task_id)
        where.add("starts_with(type, 'task.')")
        if page.cursor is not None:
            position = decode_cursor(page.cursor, (datetime, str, str))
            where.add("time >= {}", position[0])
            where.add("(time, source, event_id) > ({}, {}, {})", *position)
        limit = where.value(page.limit + 1)
        statement = HISTORY_PAGE.format(where=where, limit=limit, bytes=where.value(MAX_PAGE_BYTES))
        rows = await self._rows(statement, *where.values)
        if not rows and not await self._exists(TASK_EXISTS, task_id):
            return None
        available = rows[0]["available"] if rows else 0
        return Page(rows, page.limit, available, _event_position, frozenset({"available"}))

    async def round(self, round_id: UUID) -> Row | None:
        created_at = instant_of(round_id)
        rows = [] if created_at is None else await self._rows(ROUND_BY_ID, round_id, created_at)
        if not rows:
            return None
        tallies = [
            {"choice": row["tally_choice"], "weight": row["tally_weight"], "votes": row["tally_votes"]}
            for row in rows
            if row["tally_choice"] is not None
        ]
        columns = {name: rows[0][name] for name in views.names(views.Round) if name != "tallies"}
        return {**columns, "tallies": tallies}

    async def votes(self, round_id: UUID, page: PageRequest) -> Page | None:
        """A round's votes in the order of their agents' ids; None for a round that does not exist."""
        created_at = instant_of(round_id)
        if created_at is None:
            return None
        where = Where()
        where.add("round_id = {} AND created_at = {}", round_id, created_at)
        where.add("NOT retracted")
        if page.cursor is not None:
            where.add("agent_id > {}", *decode_cursor(page.cursor, (UUID,)))
        statement = (
            f"SELECT {', '.join(views.names(views.Vote))} FROM votes WHERE {where} "  # noqa: S608
            f"ORDER BY agent_id LIMIT {where.value(page.limit + 1)}"
        )
        rows = await self._rows(statement, *where.values)
        if not rows and not await self._exists(ROUND_EXISTS, round_id):
            return None
        return Page(rows, page.limit, len(rows), _vote_position)

    async def leaderboard(self, period: Period, start: date | None) -> Row:
        """The best hundred of the period that starts on `start`; of all time without it."""
        end = None if start is None else end_of(period, start)
        rows = await self._rows(LEADERBOARD, start, end)
        ranks = [{name: row[name] for name in views.names(views.Rank)} for row in rows]
        return {"period": period, "start": start, "end": end, "data": ranks}

    async def session(self, token_hash: bytes) -> Row | None:
        return await self._row(SESSION_BY_HASH, token_hash)

    async def ping(self) -> None:
        await self._rows("SELECT 1")

    async def _exists(self, statement: str, entity_id: UUID) -> bool:
        created_at = instant_of(entity_id)
        return created_at is not None and bool(await self._rows(statement, entity_id, created_at))

    async def _row(self, statement: str, *values: Any) -> Row | None:
        rows = await self._rows(statement, *values)
        return rows[0] if rows else None

    async def _rows(self, statement: str, *values: Any) -> list[Row]:
        async with self._pool.acquire(timeout=self._wait) as connection:
            return [_decode(record) for record in await connection.fetch(statement, *values)]


def instant_of(entity_id: UUID) -> datetime | None:
    """When the entity was created; None for an id that no entity can have."""
    if entity_id.version != 7:
        return None
    try:
        return dated(entity_id)
    except (OverflowError, ValueError, OSError):
        return None


def start_of(period: Period, day: date) -> date | None:
    """The first day of the period that `day` lies in."""
    match period:
        case Period.DAILY:
            return day
        case Period.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Period.MONTHLY:
            return day.replace(day=1)
        case Period.ALL_TIME:
            return None


def end_of(period: Period, start: date) -> date:
    """The first day after the period that starts on `start`."""
    if period is Period.MONTHLY:
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=7 if period is Period.WEEKLY else 1)


def today() -> date:
    return datetime.now(UTC).date()


def _with(names: tuple[str, ...], *needed: str) -> list[str]:
    return [*names, *(name for name in needed if name not in names)]


def _agent_position(row: Row) -> Position:
    return (row["id"],)


def _vote_position(row: Row) -> Position:
    return (row["agent_id"],)


def _task_position(row: Row) -> Position:
    return row["created_at"], row["id"]


def _event_position(row: Row) -> Position:
    return row["time"], row["source"], row["id"]


def _decode(record: asyncpg.Record) -> Row:
    return {
        name: orjson.loads(value) if name in _JSON and isinstance(value, str) else value
        for name, value in record.items()
    }
