"""What each index costs those who write: `.venv/bin/python -m tests.bench.index_cost`, under four minutes.

The same rows are written through the handlers, in transactions of 500 events, with all indexes and without
the one in question, right after each other, in random order, into empty tables. `control` drops nothing: its
spread is the noise of the others. On a machine with neighbours rows/s says little; the server's CPU time
says more, and WAL is exact. De-duplication, history and outbox are not in the handlers' figures. Autovacuum
is off, and so are sequential scans: plans are made while the tables are empty.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import asyncpg

from streams.migrations import migrate
from streams.settings import Settings
from streams.stack import LocalStack
from tests.bench.index_rows import FILL, Family, families
from tests.making import handle

REPEATS = 4

EMPTY = """TRUNCATE tasks, rounds, votes, round_tallies, agent_registry, agents, agent_scores, event_history,
    outbox, users, sessions"""
INDEXES = """
SELECT c.relname AS name, t.relname AS of, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ') AS definition,
    (SELECT count(*) FROM pg_partition_tree(c.oid)) AS parts
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE NOT t.relispartition AND c.relname LIKE 'idx\\_%' ORDER BY t.relname, c.relname
"""
SIZE = """
SELECT coalesce(sum(pg_relation_size(relid)), pg_relation_size($1::text::regclass))
FROM pg_partition_tree($1::text::regclass)
"""
TOGETHER = {
    "tasks": ("idx_tasks_agent_id", "idx_tasks_agent_status"),
    "votes": ("idx_votes_round_id", "idx_votes_round_agent"),
}


class Cost(NamedTuple):
    rate: float
    """Rows per second, with the client's part and the commits' waits."""
    cpu: float
    """Microseconds of the server process for a row."""
    wal: float
    """Bytes for a row."""


def nanoseconds_of(db: Any) -> int:
    """CPU time of the server process so far; it runs on this machine."""
    return int(Path(f"/proc/{db.get_server_pid()}/schedstat").read_text().split()[0])


async def measured(db: Any, family: Family, dropped: dict[str, str]) -> Cost:
    """Without these indexes, given by name and definition."""
    await db.execute(EMPTY)
    for name in dropped:
        await db.execute(f"DROP INDEX {name}")
    for batch in family.known:
        async with db.transaction():
            await handle(db, batch)
    lsn = await db.fetchval("SELECT pg_current_wal_insert_lsn()")
    cpu, started = nanoseconds_of(db), time.perf_counter()
    for batch in family.batches:
        async with db.transaction():
            await family.write(db, batch)
    seconds = time.perf_counter() - started
    nanoseconds = nanoseconds_of(db) - cpu
    wal = await db.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", lsn)
    await db.execute(EMPTY)
    for definition in dropped.values():
        await db.execute(definition)
    rows = sum(map(len, family.batches))
    return Cost(rows / seconds, nanoseconds / 1000 / rows, float(wal) / rows)


async def compare(db: Any, name: str, family: Family, indexes: Sequence[Any]) -> dict[tuple[str, ...], Any]:
    """By what was dropped: pairs of (with all, without)."""
    own = {row["name"]: row["definition"] for row in indexes if row["of"] in family.tables}
    variants = list(dict.fromkeys([(), *((index,) for index in own), TOGETHER.get(name, ()), tuple(own)]))
    pairs: dict[tuple[str, ...], list[Any]] = {variant: [] for variant in variants}
    for _ in range(REPEATS):
        for variant in random.sample(variants, len(variants)):
            sides = [{}, {index: own[index] for index in variant}]
            turn = random.choice((1, -1))
            runs = [await measured(db, family, dropped) for dropped in sides[::turn]]
            pairs[variant].append(runs[::turn])
    return pairs


def line(name: str, variant: tuple[str, ...], size: float, pairs: Sequence[tuple[Cost, Cost]]) -> str:
    label = " + ".join(variant) if len(variant) < 3 else f"all {len(variant)}"
    rates = [median(run[side].rate for run in pairs) for side in (0, 1)]
    columns = [f"{name:9}{label or 'control':48}{size:8.1f}{rates[0]:8.0f}{rates[1]:8.0f}"]
    for field in Cost._fields:
        ratios = sorted(getattr(without, field) / getattr(whole, field) for whole, without in pairs)
        columns.append(f"{median(ratios):7.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
    return "".join(columns)


async def main() -> None:
    random.seed(1)
    with LocalStack("bench", unique=True) as urls:
        await migrate(urls.database, Settings.load().migration_sources)
        db = await asyncpg.connect(urls.database, server_settings={"enable_seqscan": "off"})
        await db.execute("ALTER SYSTEM SET autovacuum = off")
        await db.execute("SELECT pg_reload_conf()")
        await db.execute(FILL)
        indexes = await db.fetch(INDEXES)
        sizes = {row["name"]: float(await db.fetchval(SIZE, row["name"])) for row in indexes}
        print(f"{'written':9}{'dropped':48} MB/100k  rows/s without  ratio         CPU           WAL")
        for name, family in families().items():
            for variant, pairs in (await compare(db, name, family, indexes)).items():
                size = sum(sizes[index] for index in variant) / 1e6
                print(line(name, variant, size, pairs), flush=True)
        left = await db.fetch(INDEXES)
        assert left == indexes, "what was dropped must have come back as it was"
        await db.close()


if __name__ == "__main__":
    asyncio.run(main())
