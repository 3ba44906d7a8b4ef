"""Repairs what a worker may repair by itself: a partition that is missing inside the allowed window."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import asyncpg
import structlog

from streams import partitions
from streams.delivery import Item
from streams.outcome import is_missing_partition

if TYPE_CHECKING:
    from streams.database import Database

log = structlog.get_logger(__name__)

_SECONDS = 5.0


def repairer(database: Database | None) -> Callable[[BaseException, Sequence[Item]], Awaitable[bool]]:
    """A function that is given a batch's error and events, and says whether it made a partition."""

    async def repair(error: BaseException, items: Sequence[Item]) -> bool:
        if database is None or not is_missing_partition(error):
            return False
        table = str(getattr(error, "table_name", "") or "")
        moments = {moment.date(): moment for item in items if item.event for moment in item.event.moments}
        made: list[str] = []
        try:
            async with database.pool.acquire(timeout=_SECONDS) as connection:
                for moment in moments.values():
                    made += await partitions.repair(connection, table, moment)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
            log.error("cannot make a missing partition", table=table, error=type(failure).__name__)
        if made:
            log.warning("made missing partitions", partitions=made)
        return bool(made)

    return repair
