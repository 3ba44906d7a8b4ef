"""What the handlers' SQL has in common.

Rows are locked by one technique. For keys in ascending order, one statement inserts the rows that are
new and locks those that exist:

    INSERT INTO t (...) SELECT ... ORDER BY key
    ON CONFLICT (key) DO UPDATE SET c = t.c WHERE false
    RETURNING key

A row that fails DO UPDATE's WHERE is locked all the same, without a new tuple, and is not returned. So
the keys that come back are new, and the others can be read by the next statement: its snapshot is taken
once the locks are held, hence what it sees is the exact before-image. All writers go through keys in the
same order, which is why they never deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]


def columns(rows: Iterable[Sequence[Any]]) -> Iterable[tuple[Any, ...]]:
    """Rows turned into columns, one array parameter each. Rows must not be empty."""
    return zip(*rows, strict=True)


def as_json(value: object) -> str | None:
    """The text that PostgreSQL casts to jsonb; None stays NULL."""
    return None if value is None else orjson.dumps(value).decode()
