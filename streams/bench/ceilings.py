"""COPY of the rows that a run has stored into the same, emptied tables, with all their indexes, on one
connection: what PostgreSQL takes from a writer that has nothing else to do.

- ceiling: all of them in one transaction;
- ceiling in batches: in the order in which they were stored, in as many transactions as the run had batches,
  each of them committed as the service's are.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from streams.bench import proc
from streams.bench.dump import cut
from streams.bench.finding import Finding
from streams.bench.place import Place

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

_TABLES: Final = (
    "agent_registry",
    "agents",
    "agent_scores",
    "tasks",
    "rounds",
    "votes",
    "round_tallies",
    "event_claims",
    "event_history",
)
# In the order of ctid, from the beginning: neither where another scan of the table is, nor in parallel.
_SETTINGS: Final = (
    "SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; SET synchronous_commit = on"
)


async def ceilings(place: Place, events: int, repeat: int = 3) -> dict[str, Finding]:
    """Copy out what is stored, then in again, several times in either way; medians.

    Args:
        events: that the rows were made of.
    """
    database = place.database
    await database.execute(_SETTINGS)
    batches: int = await database.fetchval("SELECT count(DISTINCT batch_id) FROM event_history")
    with TemporaryDirectory(prefix="streams-bench-") as folder:
        files = {table: Path(folder, table) for table in _TABLES}
        for table, path in files.items():
            query = f"SELECT * FROM {table}"  # noqa: S608 - our own names
            await database.copy_from_query(query, output=path, format="binary")
        whole = await _measured(place, events, repeat, lambda: copy_whole(database, files))
        parts = {table: cut(path.read_bytes(), batches) for table, path in files.items()}
    in_batches = await _measured(place, events, repeat, lambda: copy_in_batches(database, parts))
    return {"ceiling": whole, "ceiling in batches": in_batches}


async def _measured(place: Place, events: int, repeat: int, copy: Callable[[], Awaitable[None]]) -> Finding:
    rows = await _rows(place.database)
    server = {name: pid for name, pid in place.pids.items() if name == "postgres"}
    rates, cpu, same = [], [], True
    for _ in range(repeat):
        await place.empty()
        await place.quiet()
        spent, started = sum(proc.cpu_seconds(server).values()), time.perf_counter()
        await copy()
        rates.append(events / (time.perf_counter() - started))
        cpu.append((sum(proc.cpu_seconds(server).values()) - spent) / events * 1e6)
        same = same and await _rows(place.database) == rows
    figures = {"events_per_second": median(rates)}
    if server:
        figures["cpu_us.postgres"] = median(cpu)
    return Finding(figures, {"COPY stored the same rows": same})


async def copy_whole(database: Connection, files: Mapping[str, Path]) -> None:
    """All files, by their tables, in one transaction."""
    async with database.transaction():
        for table, path in files.items():
            await database.copy_to_table(table, source=path, format="binary")


async def copy_in_batches(database: Connection, parts: Mapping[str, Sequence[bytes]]) -> None:
    """The first part of each table in one transaction, then the second of each, and so on."""
    for batch in zip(*parts.values(), strict=True):
        async with database.transaction():
            for table, part in zip(parts, batch, strict=True):
                if part:
                    await database.copy_to_table(table, source=_once(part), format="binary")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _rows(database: Connection) -> dict[str, int]:
    return {
        table: await database.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
        for table in _TABLES
    }
