"""The read side's SQL for lists, against the primary.

Lists go by keyset: a page begins after the last row of the one before, whatever was inserted meanwhile.
Small sets can be read by page number, too. The number of statements never depends on the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, cast
from uuid import UUID

import orjson

from handlers import views
from handlers.list_sql import (
    AGENT_ORDERS,
    AGENT_TASKS,
    AGENTS_WITH_TASKS,
    EVENT_ORDER,
    HISTORY_PAGE,
    ROUND_ORDER,
    ROUND_TALLIES,
    ROUNDS_PAGE,
    TASK_ORDERS,
    VOTE_ORDER,
)
from handlers.paging import (
    MAX_PAGE_BYTES,
    MAX_RECORDS,
    Body,
    NumberedPage,
    Page,
    PageRequest,
    Row,
    TooManyRecords,
    scope_of,
)
from handlers.selecting import Order, Rows, Where, instant_of, order_of
from schemas.agents import AgentStatus

ROUND_EXISTS: Final = "SELECT 1 FROM rounds WHERE id = $1 AND created_at = $2"
TASK_EXISTS: Final = "SELECT 1 FROM tasks WHERE id = $1 AND created_at = $2"


class RoundState(StrEnum):
    """Open: neither decided nor closed. Decided: its quorum was reached. Closed: without a decision."""

    OPEN = "open"
    DECIDED = "decided"
    CLOSED = "closed"


# The first is the predicate of idx_rounds_open.
ROUND_STATES: Final = {
    RoundState.OPEN: "decided_at IS NULL AND closed_at IS NULL",
    RoundState.DECIDED: "decided_at IS NOT NULL",
    RoundState.CLOSED: "decided_at IS NULL AND closed_at IS NOT NULL",
}


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
class RoundFilters:
    state: RoundState | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Lists:
    """Pages of lists: one statement by cursor, three by number. Raises what `Rows` raises.

    Raises:
        ParameterError: a cursor that is none of this list, or a sort key that it has not.
        TooManyRecords: a numbered page of too large a set.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def agents(self, filters: AgentFilters, page: PageRequest, names: tuple[str, ...]) -> Body:
        key, order = order_of(AGENT_ORDERS, page)
        scope = scope_of("agents", *astuple(filters), key)
        where = _agents_where(filters)
        return await self._page("agents", where, order, page, names, scope)

    async def agents_with_tasks(
        self,
        filters: AgentFilters,
        page: PageRequest,
        names: tuple[str, ...],
        each: int,
        user_id: UUID | None,
    ) -> Body:
        """Agents, each with its newest tasks.

        Args:
            each: tasks of an agent, at most.
            user_id: only this user's tasks.
        """
        key, order = order_of(AGENT_ORDERS, page)
        scope = scope_of("agents", *astuple(filters), key)
        where = _agents_where(filters)
        order.resume(where, page.cursor, scope)
        selected = list(dict.fromkeys(["id", *order.selected(names)]))
        statement = AGENTS_WITH_TASKS.format(
            agent_columns=", ".join(f"a.{name} AS agent_{name}" for name in selected),
            task_columns=", ".join(f"t.{name} AS task_{name}" for name in views.TASK_SUMMARY),
            selected=", ".join(selected),
            where=where,
            by=order.by,
            by_a=", ".join(f"a.{term.strip()}" for term in order.by.split(",")),
            limit=where.value(page.limit + 1),
            each=where.value(each),
            confined="true" if user_id is None else f"user_id = {where.value(user_id)}",
        )
        rows = _nested(await self._rows.fetch_heavy(statement, *where.values), selected)
        return Page(rows, page.limit, len(rows), order.position, scope, frozenset(selected) - set(names))

    async def tasks(self, filters: TaskFilters, page: PageRequest, names: tuple[str, ...]) -> Body:
        key, order = order_of(TASK_ORDERS, page)
        scope = scope_of("tasks", *astuple(filters), key)
        where = Where()
        where.add_given("agent_id = {}", filters.agent_id)
        where.add_given("user_id = {}", filters.user_id)
        where.add_given("status = {}", filters.status)
        where.add_given("kind = {}", filters.kind)
        where.add_given("created_at >= {}", filters.created_from)
        where.add_given("created_at < {}", filters.created_before)
        if filters.agent_id is None or filters.status or filters.user_id or page.page is not None:
            heavy = filters.agent_id is None and filters.user_id is None
            return await self._page("tasks", where, order, page, names, scope, heavy=heavy)
        order.resume(where, page.cursor, scope)
        selected = order.selected(names)
        statement = AGENT_TASKS.format(
            columns=", ".join(selected), where=where, by=order.by, limit=where.value(page.limit + 1)
        )
        rows = await self._rows.fetch(statement, *where.values)
        return Page(rows, page.limit, len(rows), order.position, scope, frozenset(selected) - set(names))

    async def history(self, task_id: UUID, page: PageRequest, names: tuple[str, ...]) -> Body | None:
        """A task's events in the order of their times; None for a task that does not exist."""
        scope = scope_of("events", task_id)
        where = Where()
        where.add("entity_id = {}", task_id)
        where.add("starts_with(type, 'task.')")
        EVENT_ORDER.resume(where, page.cursor, scope)
        limit = where.value(page.limit + 1)
        statement = HISTORY_PAGE.format(where=where, limit=limit, bytes=where.value(MAX_PAGE_BYTES))
        rows = await self._rows.fetch_heavy(statement, *where.values)
        if not rows and not await self._rows.exists(TASK_EXISTS, task_id):
            return None
        available = rows[0]["available"] if rows else 0
        hidden = frozenset({"available", *views.EVENT}) - set(names)
        return Page(rows, page.limit, available, EVENT_ORDER.position, scope, hidden)

    async def rounds(self, filters: RoundFilters, page: PageRequest, names: tuple[str, ...]) -> Body:
        """Rounds with their tallies, the newest first."""
        scope = scope_of("rounds", *astuple(filters))
        where = Where()
        if filters.state is not None:
            where.add(ROUND_STATES[filters.state])
        where.add_given("created_at >= {}", filters.created_from)
        where.add_given("created_at < {}", filters.created_before)
        selected = ROUND_ORDER.selected(names)

        def statement(limit: int, offset: int) -> str:
            return ROUNDS_PAGE.format(
                columns=", ".join(name if name == "tallies" else f"r.{name}" for name in selected),
                where=where,
                limit=where.value(limit),
                offset=where.value(offset),
                join=ROUND_TALLIES if "tallies" in selected else "",
            )

        hidden = frozenset(selected) - set(names)
        if page.page is not None:
            return await self._numbered("rounds", where, page, statement, hidden)
        ROUND_ORDER.resume(where, page.cursor, scope)
        rows = await self._rows.fetch_heavy(statement(page.limit + 1, 0), *where.values)
        return Page(rows, page.limit, len(rows), ROUND_ORDER.position, scope, hidden)

    async def votes(self, round_id: UUID, page: PageRequest, names: tuple[str, ...]) -> Body | None:
        """A round's votes in the order of their agents' ids; None for a round that does not exist."""
        created_at = instant_of(round_id)
        if created_at is None:
            return None
        where = Where()
        where.add("round_id = {} AND created_at = {}", round_id, created_at)
        where.add("NOT retracted")
        found = await self._page("votes", where, VOTE_ORDER, page, names, scope_of("votes", round_id))
        empty = isinstance(found, Page) and not found.rows and page.cursor is None
        if empty and not await self._rows.exists(ROUND_EXISTS, round_id):
            return None
        return found

    async def _page(
        self,
        table: str,
        where: Where,
        order: Order,
        page: PageRequest,
        names: tuple[str, ...],
        scope: str,
        *,
        heavy: bool = False,
    ) -> Body:
        selected = order.selected(names)
        hidden = frozenset(selected) - set(names)

        def statement(limit: int, offset: int) -> str:
            return (
                f"SELECT {', '.join(selected)} FROM {table} WHERE {where} "  # noqa: S608 - code-owned parts
                f"ORDER BY {order.by} LIMIT {where.value(limit)} OFFSET {where.value(offset)}"
            )

        if page.page is not None:
            return await self._numbered(table, where, page, statement, hidden)
        order.resume(where, page.cursor, scope)
        fetch = self._rows.fetch_heavy if heavy else self._rows.fetch
        rows = await fetch(statement(page.limit + 1, 0), *where.values)
        return Page(rows, page.limit, len(rows), order.position, scope, hidden)

    async def _numbered(
        self,
        table: str,
        where: Where,
        page: PageRequest,
        statement: Callable[[int, int], str],
        hidden: frozenset[str],
    ) -> NumberedPage:
        """The page of a number; the planner's estimate keeps us from counting what is large.

        Raises:
            TooManyRecords: the set is.
        """
        matching = f"SELECT FROM {table} WHERE {where}"
        plan = await self._rows.fetch_heavy(f"EXPLAIN (FORMAT JSON) {matching}", *where.values)
        if orjson.loads(plan[0]["QUERY PLAN"])[0]["Plan"]["Plan Rows"] > 2 * MAX_RECORDS:  # estimates err
            raise TooManyRecords
        values = list(where.values)
        counted = f"SELECT count(*) FROM ({matching} LIMIT {MAX_RECORDS + 1}) AS matching"  # noqa: S608
        total = cast("int", (await self._rows.fetch_heavy(counted, *values))[0]["count"])
        if total > MAX_RECORDS:
            raise TooManyRecords
        rows = await self._rows.fetch_heavy(statement(page.limit, page.offset), *where.values)
        return NumberedPage(rows, page, total, hidden)


def _agents_where(filters: AgentFilters) -> Where:
    where = Where()
    where.add_given("status = {}", filters.status)
    where.add_given("is_active = {}", filters.is_active)
    return where


def _nested(rows: list[Row], columns: list[str]) -> list[Row]:
    """From a row per task to a row per agent, in the order that they came in."""
    agents: dict[UUID, dict[str, Any]] = {}
    for row in rows:
        agent = agents.get(row["agent_id"])
        if agent is None:
            agent = {name: row[f"agent_{name}"] for name in columns} | {"tasks": []}
            agents[row["agent_id"]] = agent
        if row["task_id"] is not None:
            agent["tasks"].append({name: row[f"task_{name}"] for name in views.TASK_SUMMARY})
    return list(agents.values())
