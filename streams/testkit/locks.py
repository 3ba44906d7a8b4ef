"""Whether a handler locks rows in one order. Two that do not will deadlock under load, sooner or later.

A transaction of ours holds one row; the handler runs until it waits for it. What it has locked by then must
come before that row. So no luck with timing is needed, and no load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from schemas.contract import Batch, Store
from schemas.ids import uuid7
from streams.testkit.kit import Given, Kit

Row = tuple[str, Any]
"""(table, key)"""

_SECONDS = 30.0


async def assert_lock_order(
    kit: Kit, events: Sequence[Given], keys: Mapping[str, str], *, stored: Sequence[Given] = ()
) -> None:
    """Check that the handler of these events locks rows in the order of (table, key).

    The rows must be there, so `stored` and then the events themselves are stored first, for good: use a
    database of the test's own. Then the handler runs over the events, forwards and backwards, for each row.

    Args:
        keys: the tables in the order they are to be locked, each with its key column; rows of a table in
            ascending order of that. Advisory locks and FOR KEY SHARE are not looked at.
        stored: events to store before, so that more rows are there.

    Raises:
        AssertionError: names a row that was locked before another that comes first.
    """
    if not kit.url:
        raise ValueError("the kit has no URL for further connections: make it with Kit.open")
    for batch in (stored, events):
        if batch:
            await kit.run(batch)
    rows = [(table, key) for table in keys for key in await _keys(kit.connection, table, keys[table])]
    holder, worker = await asyncpg.connect(kit.url), await asyncpg.connect(kit.url)
    try:
        for number, row in enumerate(rows):
            later = rows[number + 1 :]
            for order in (list(events), list(events)[::-1]):
                early = await _locked_before(kit, order, row, later, keys, holder, worker)
                if early is not None:
                    raise AssertionError(
                        f"{_named(early)} is locked before {_named(row)}: rows must be locked in order"
                    )
    finally:
        await holder.close()
        await worker.close()


async def _locked_before(
    kit: Kit,
    events: Sequence[Given],
    row: Row,
    later: Sequence[Row],
    keys: Mapping[str, str],
    holder: asyncpg.Connection,
    worker: asyncpg.Connection,
) -> Row | None:
    """A row of `later` that the handler holds while it waits for `row`."""
    hold = holder.transaction()
    await hold.start()
    await holder.execute(_select(row[0], keys[row[0]], "= $1", "FOR NO KEY UPDATE"), row[1])
    waiting = asyncio.create_task(_handle(kit, events, worker))
    try:
        if not await _blocked(kit.connection, worker, waiting):
            return None  # it does not touch this row
        free = await _free(kit.connection, later, keys)
        return next((other for other in later if other not in free), None)
    finally:
        await hold.rollback()
        await asyncio.wait_for(waiting, _SECONDS)


async def _handle(kit: Kit, events: Sequence[Given], worker: asyncpg.Connection) -> None:
    decoded = kit.decoded(events)
    subscription = next(s for s in kit.subscriptions if decoded[0].type in s.types)
    assert subscription.store is Store.POSTGRES
    transaction = worker.transaction()
    await transaction.start()
    try:
        await subscription.handler(Batch(uuid7(), decoded), worker)
    finally:
        await transaction.rollback()


async def _blocked(
    watch: asyncpg.Connection, worker: asyncpg.Connection, waiting: asyncio.Task[None]
) -> bool:
    """Whether the handler came to wait for a lock, rather than to its end."""
    query = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    async with asyncio.timeout(_SECONDS):
        while not waiting.done():
            if await watch.fetchval(query, worker.get_server_pid()):
                return True
            await asyncio.wait([waiting], timeout=0.002)
    await waiting  # raises what went wrong
    return False


async def _free(watch: asyncpg.Connection, rows: Sequence[Row], keys: Mapping[str, str]) -> set[Row]:
    """Those rows that nobody has locked."""
    found: set[Row] = set()
    for table in dict.fromkeys(table for table, _ in rows):
        wanted = [key for name, key in rows if name == table]
        query = _select(table, keys[table], "= ANY($1)", "FOR NO KEY UPDATE SKIP LOCKED")
        async with watch.transaction():
            found |= {(table, record[0]) for record in await watch.fetch(query, wanted)}
    return found


async def _keys(connection: asyncpg.Connection, table: str, key: str) -> list[Any]:
    query = f'SELECT "{key}" FROM "{table}" ORDER BY "{key}"'  # noqa: S608 - named by the test
    return [record[0] for record in await connection.fetch(query)]


def _select(table: str, key: str, condition: str, lock: str) -> str:
    return f'SELECT "{key}" FROM "{table}" WHERE "{key}" {condition} {lock}'  # noqa: S608 - named by the test


def _named(row: Row) -> str:
    return f"{row[0]} {row[1]}"
