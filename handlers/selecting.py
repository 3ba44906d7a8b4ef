"""What the read side's statements are put together from: code-owned parts, and parameters for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from handlers.gate import Gate
from handlers.paging import PageRequest, ParameterError, Position, Row, decode_cursor
from schemas.fields import dated

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_JSON: Final = frozenset({"payload", "result", "error", "task_error", "data", "decided_tally", "tallies"})


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


@dataclass(frozen=True, slots=True)
class Order:
    """An order that a list can be read in.

    Args:
        by: ORDER BY, down to a column that is unique.
        columns: what a position consists of, with the kinds of its values.
        after: the rows behind a position; `{n}` is its n-th value.
    """

    by: str
    columns: Mapping[str, type]
    after: str

    def resume(self, where: Where, cursor: str | None, scope: str) -> None:
        """Begin behind a cursor, if there is one.

        Raises:
            ParameterError: it is no cursor of this list.
        """
        if cursor is not None:
            where.add(self.after, *decode_cursor(cursor, tuple(self.columns.values()), scope))

    def position(self, row: Row) -> Position:
        return tuple(row[name] for name in self.columns)

    def selected(self, names: tuple[str, ...]) -> list[str]:
        """These columns and those of the position."""
        return [*names, *(name for name in self.columns if name not in names)]


def order_of(orders: Mapping[str, Order], page: PageRequest) -> tuple[str, Order]:
    """The order that is asked for, or the first.

    Raises:
        ParameterError: a sort key that is not on the list.
    """
    key = next(iter(orders)) if page.sort is None else page.sort
    if key not in orders:
        raise ParameterError("sort", f"must be one of: {', '.join(orders)}")
    return key, orders[key]


class Rows:
    """Runs statements on the pool.

    Args:
        gate: what heavy statements go through, so that light ones find a connection.
        wait: seconds to wait for a connection.

    Raises:
        TimeoutError: no connection became free, or the statement took longer than the pool allows.
        Busy: too many heavy statements are at work.
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the server is not there.
    """

    def __init__(self, pool: Pool, gate: Gate, *, wait: float = 2.0) -> None:
        self._pool = pool
        self._gate = gate
        self._wait = wait

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        async with self._pool.acquire(timeout=self._wait) as connection:
            return [_decode(record) for record in await connection.fetch(statement, *values)]

    async def fetch_heavy(self, statement: str, *values: Any) -> list[Row]:
        """The same for what may read many rows."""
        async with self._gate:
            return await self.fetch(statement, *values)

    async def row(self, statement: str, *values: Any) -> Row | None:
        rows = await self.fetch(statement, *values)
        return rows[0] if rows else None

    async def exists(self, statement: str, entity_id: UUID) -> bool:
        """Whether a statement that takes an id and its instant finds anything."""
        created_at = instant_of(entity_id)
        return created_at is not None and bool(await self.fetch(statement, entity_id, created_at))


def instant_of(entity_id: UUID) -> datetime | None:
    """When the entity was created; None for an id that no entity can have."""
    if entity_id.version != 7:
        return None
    try:
        return dated(entity_id)
    except (OverflowError, ValueError, OSError):
        return None


def _decode(record: asyncpg.Record) -> Row:
    """JSON goes through as PostgreSQL wrote it: nothing is parsed, and no number loses a digit."""
    return {
        name: orjson.Fragment(value) if name in _JSON and isinstance(value, str) else value
        for name, value in record.items()
    }
