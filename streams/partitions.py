"""Partitions of the tables that `partitioned_tables` names: made ahead, repaired, retired.

What should exist is decided in SQL (`partition_plan`), so that a worker, the command line and an operator
with psql agree. Making partitions goes through functions that run with their owner's rights: a worker's
role needs no DDL. Retiring them is for the owner of the tables alone: `apply` under another role
leaves expired partitions where they are and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

if TYPE_CHECKING:
    from streams.telemetry.metrics import Metrics

    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

log = structlog.get_logger(__name__)

_PLAN = "SELECT * FROM partition_plan()"

_AHEAD = "SELECT table_name, kind, ahead FROM partitions_ahead()"

_CREATE = "SELECT name FROM create_partitions() AS name"

_REPAIR = "SELECT name FROM repair_partition($1, $2) AS name"

_FLOOR = "SELECT max(retention_floor(kind, retention)) FROM partitioned_tables WHERE kind = 'month'"

_QUOTE = "SELECT format('public.%I', $1::text)"

_STATEMENT_SECONDS: Final = 120.0


class State(StrEnum):
    PRESENT = "present"
    MISSING = "missing"
    EXPIRED = "expired"
    DETACHING = "detaching"
    """An earlier detach was interrupted; it has to be finished."""
    DETACHED = "detached"
    """Expired and detached, but to be dropped, too."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition that exists or should; it holds [starts, ends)."""

    table: str
    name: str
    starts: datetime
    ends: datetime
    state: State
    drop: bool
    """When it expires it is dropped, too, not only detached."""
    owned: bool
    """The connection's role may retire it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What exists, what should, and how far ahead each table is."""

    partitions: Sequence[Partition]
    ahead: Mapping[str, int]
    """Periods (months, or de-duplication windows) after the current one, without a gap; -1: the current
    one is missing."""

    @property
    def create(self) -> list[Partition]:
        return [p for p in self.partitions if p.state is State.MISSING]

    @property
    def detach(self) -> list[Partition]:
        return [p for p in self.partitions if p.state in (State.EXPIRED, State.DETACHING)]

    @property
    def drop(self) -> list[Partition]:
        return [p for p in self.retire if p.drop]

    @property
    def retire(self) -> list[Partition]:
        """All that is past retention."""
        return [p for p in self.partitions if p.state not in (State.PRESENT, State.MISSING)]

    @property
    def is_done(self) -> bool:
        return not self.create and not self.retire


@dataclass(slots=True)
class Applied:
    """Names of the partitions that `apply` changed, and of those it had to leave."""

    created: list[str] = field(default_factory=list)
    detached: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Expired, but not ours to retire, or in use."""


async def plan(conn: Connection) -> Plan:
    """Look, change nothing. Any of our roles may."""
    rows = await conn.fetch(_PLAN)
    partitions = [
        Partition(
            table=row["table_name"],
            name=row["partition_name"],
            starts=row["starts"],
            ends=row["ends"],
            state=State(row["state"]),
            drop=row["drop_expired"],
            owned=row["owned"],
        )
        for row in rows
    ]
    return Plan(partitions, await ahead(conn))


async def ahead(conn: Connection) -> dict[str, int]:
    """Periods made ahead, by table, as in `Plan.ahead`."""
    return {row["table_name"]: row["ahead"] for row in await conn.fetch(_AHEAD)}


async def months_ahead(conn: Connection) -> int:
    """Whole months after the current one that all monthly tables have; -1: writes fail now somewhere."""
    months = [row["ahead"] for row in await conn.fetch(_AHEAD) if row["kind"] == "month"]
    return min(months, default=0)


async def floor(conn: Connection) -> datetime:
    """The earliest instant that every monthly table accepts; events before it must be refused."""
    value: datetime = await conn.fetchval(_FLOOR)
    return value


async def repair(conn: Connection, table: str, at: datetime) -> list[str]:
    """Make the partition of `table` that holds `at`; returns the names of what was made.

    For a table of de-duplication windows the server's clock counts, and `at` does not.

    Raises:
        asyncpg.InvalidParameterValueError: nothing may be stored at that date, or the table is unknown.
    """
    return [row["name"] for row in await conn.fetch(_REPAIR, table, at)]


async def apply(conn: Connection) -> Applied:
    """Make what is missing, retire what has expired. Idempotent; safe beside others that do the same.

    Args:
        conn: not inside a transaction: partitions are detached CONCURRENTLY, which no transaction can do.
    """
    done = Applied()
    # The waits of a detach are longer than what a pool allows its statements.
    await conn.execute("SET statement_timeout = '110s'; SET lock_timeout = '5s'")
    try:
        rows = await conn.fetch(_CREATE, timeout=_STATEMENT_SECONDS)
        done.created += [row["name"] for row in rows]
        for partition in (await plan(conn)).retire:
            if partition.owned:
                await _retire(conn, partition, done)
            else:
                done.left.append(partition.name)
    finally:
        if not conn.is_closed():
            await conn.execute("RESET statement_timeout; RESET lock_timeout")
    return done


async def _retire(conn: Connection, partition: Partition, done: Applied) -> None:
    table, name = [await conn.fetchval(_QUOTE, word) for word in (partition.table, partition.name)]
    # CONCURRENTLY waits for transactions that use the table, without making new ones wait.
    how = "FINALIZE" if partition.state is State.DETACHING else "CONCURRENTLY"
    try:
        if partition.state is not State.DETACHED:
            await conn.execute(
                f"ALTER TABLE {table} DETACH PARTITION {name} {how}", timeout=_STATEMENT_SECONDS
            )
            done.detached.append(partition.name)
        if partition.drop:
            await conn.execute(f"DROP TABLE {name}", timeout=_STATEMENT_SECONDS)
            done.dropped.append(partition.name)
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.QueryCanceledError,
        asyncpg.ObjectNotInPrerequisiteStateError,  # another process is detaching it
        asyncpg.UndefinedTableError,  # another process was faster
    ) as error:
        log.warning("partition is left for the next time", partition=partition.name, error=str(error))
        done.left.append(partition.name)


class PartitionKeeper:
    """Applies the plan again and again, and keeps the gauge of what is ahead.

    Args:
        interval: seconds between two passes.
        report: told the periods ahead by table after each pass that worked.
        retry: seconds to the next one after a failure; it takes no part of the process down.
        sleep: waits; replaced in tests.
    """

    def __init__(
        self,
        pool: Pool,
        metrics: Metrics | None = None,
        report: Callable[[Mapping[str, int]], None] | None = None,
        *,
        interval: float = 3600.0,
        retry: float = 60.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._report = report
        self._interval = interval
        self._retry = retry
        self._sleep = sleep
        self.ahead: Mapping[str, int] = {}
        """Periods ahead by table, as of the last pass that worked."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._pass()
                wait = self._interval
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("cannot look after partitions, will try again", error=type(error).__name__)
                wait = self._retry
            await self._sleep(wait)

    async def _pass(self) -> None:
        async with self._pool.acquire() as conn:
            done = await apply(conn)
            self.ahead = await ahead(conn)
        if self._metrics is not None:
            for table, periods in self.ahead.items():
                self._metrics.partitions_ahead_months.labels(table).set(periods)
        if self._report is not None:
            self._report(self.ahead)
        if done.created or done.detached:
            log.info("partitions", created=done.created, detached=done.detached, dropped=done.dropped)
        if done.left:
            log.warning("expired partitions wait for `streams partitions apply`", left=done.left)
