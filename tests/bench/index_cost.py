"""What each index costs those who write: `.venv/bin/python -m tests.bench.index_cost`, under four minutes.

The same rows are written through the handlers, in transactions of 500 events, with all indexes and without
the one in question, right after each other, in random order, into empty tables. `control` drops nothing: its
spread is the noise of the others. De-duplication, history and outbox are not in the handlers' rates.
Autovacuum is off, and so are sequential scans: plans are made while the tables are empty.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from handlers import scores
from schemas.agents import AgentStatus
from schemas.envelope import Event
from schemas.ids import uuid7
from streams import outbox
from streams.migrations import migrate
from streams.settings import Settings
from streams.stack import LocalStack
from streams.stores import HISTORY_COLUMNS
from tests.making import handle, make

REPEATS = 5
BATCH = 500
AGENTS = [uuid4() for _ in range(500)]
USERS = [uuid4() for _ in range(1000)]

# 100,000 rows of each table as they are inserted, for the sizes of fresh indexes.
FILL = """
CREATE TEMP TABLE n AS SELECT i, gen_random_uuid() AS id, now() + i * interval '1 ms' AS at,
    md5((i % 500)::text)::uuid AS agent, md5('u' || i % 5000)::uuid AS of_user
FROM generate_series(1, 100000) i;
INSERT INTO tasks (id, created_at, status, agent_id, user_id, updated_at)
SELECT id, at, CASE WHEN i % 100 < 5 THEN 'pending' ELSE 'completed' END, agent, of_user, at FROM n;
INSERT INTO votes (round_id, agent_id, created_at, cast_at, stamp)
SELECT md5((i / 30)::text)::uuid, agent, date_trunc('day', at) + i / 30 * interval '1 ms', at, '' FROM n;
INSERT INTO agents (id, status, is_active, reputation_score, created_at, updated_at)
SELECT id, (ARRAY['active', 'processing', 'inactive', 'paused'])[1 + i % 4], i % 4 < 2, i % 1000, at, at
FROM n;
INSERT INTO agent_scores (agent_id, day) SELECT agent, date '2026-01-01' + i / 500 FROM n;
INSERT INTO event_history (time, entity_id, type, source, event_id, batch_id, data)
SELECT at, md5((i / 5)::text)::uuid, '', '', '', id, '{}' FROM n;
INSERT INTO outbox (batch_id, created_at, messages) SELECT id, at, '' FROM n;
INSERT INTO users (id, email, created_at) SELECT id, i || '@example.org', at FROM n;
INSERT INTO sessions (id, user_id, token_hash, expires_at) SELECT id, of_user, uuid_send(id), at FROM n;
"""
EMPTY = """TRUNCATE tasks, rounds, votes, round_tallies, agent_registry, agents, agent_scores, event_history,
    outbox, users, sessions"""
USERS_SQL = "INSERT INTO users (id, email) SELECT n, n || '@example.org' FROM unnest($1::uuid[]) n"
SESSIONS_SQL = """INSERT INTO sessions (id, user_id, token_hash, expires_at)
SELECT n, md5(left(n::text, 3))::uuid, uuid_send(n), now() FROM unnest($1::uuid[]) n"""
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


class Family(NamedTuple):
    """Rows written alike: `write` takes a batch in a transaction; `known` is stored first, not measured."""

    tables: tuple[str, ...]
    batches: Sequence[Any]
    write: Callable[[Any, Any], Awaitable[Any]]
    known: Sequence[Any] = ()


def batches(rows: Iterable[Any]) -> list[list[Any]]:
    listed = list(rows)
    return [listed[start : start + BATCH] for start in range(0, len(listed), BATCH)]


def registered() -> list[Event]:
    return [make("agent.registered", agent_id=agent, name="an agent", is_active=True) for agent in AGENTS]


def task_lives(tasks: int = 1200, overlap: int = 250) -> list[Event]:
    """Five events a task; some `overlap` tasks are under way at any time."""
    events: list[Event] = []
    for n in range(tasks):
        task, agent, user = uuid7(), random.choice(AGENTS), random.choice(USERS)
        a, b, c, d, e = (n + k * overlap / 4 for k in range(5))
        events += [
            make("task.created", a, task_id=task, kind="index", user_id=user, payload={"n": n}),
            make("task.assigned", b, task_id=task, agent_id=agent),
            make("task.started", c, task_id=task),
            make("task.progressed", d, task_id=task, progress=0.5),
            make("task.completed", e, task_id=task, result={"n": n}),
        ]
    return sorted(events, key=lambda event: event.time)


def polls(rounds: int = 150, voters: int = 30) -> list[Event]:
    """Rounds with a vote of each of 30 agents; one in ten changes its mind."""
    events: list[Event] = []
    for n in range(rounds):
        round_id, agents = uuid7(), random.sample(AGENTS, voters)
        events.append(make("round.opened", n, round_id=round_id, options=("a", "b"), quorum=20))
        for agent in agents + agents[: voters // 10]:
            at, choice = n + random.random() * 15, random.choice("ab")
            events.append(make("vote.cast", at, round_id=round_id, agent_id=agent, choice=choice))
    return sorted(events, key=lambda event: event.time)


def moves(times: int = 8) -> list[Event]:
    """Each agent registers, then changes its status: in half of the cases to the other partition."""
    events = registered()
    for second in range(1, times + 1):
        statuses = random.choices(tuple(AgentStatus), k=len(AGENTS))
        for agent, status in zip(AGENTS, statuses, strict=True):
            events.append(make("agent.status_changed", second, agent_id=agent, status=status))
    return events


async def write_scores(tx: Any, agents: Sequence[UUID]) -> None:
    deltas = scores.Deltas()
    for agent in agents:
        deltas.move(None, scores.Contribution(agent, date(2026, 1, 1), scores.Kind.COMPLETED))
    await scores.apply(tx, deltas)


async def write_outbox(tx: Any, ids: Sequence[UUID]) -> None:
    await tx.executemany(outbox.INSERT, [(batch_id, b"x" * 2000) for batch_id in ids])
    await tx.execute(outbox.DELETE, ids)


def families() -> dict[str, Family]:
    now, ids, known = datetime.now(UTC), [uuid4() for _ in range(15_000)], batches(registered())
    past = [(now, id_, "task.created", "s", str(id_), id_, None, "{}") for id_ in ids]
    return {
        "tasks": Family(("tasks",), batches(task_lives()), handle, known),
        "votes": Family(("votes",), batches(polls()), handle, known),
        "agents": Family(("agents",), batches(moves()), handle),
        "scores": Family(("agents", "agent_scores"), [AGENTS] * 20, write_scores, known),
        "history": Family(
            ("event_history",),
            batches(past),
            lambda tx, rows: tx.copy_records_to_table("event_history", records=rows, columns=HISTORY_COLUMNS),
        ),
        "outbox": Family(("outbox",), batches(ids[:4000]), write_outbox),
        "users": Family(("users",), batches(ids), lambda tx, rows: tx.execute(USERS_SQL, rows)),
        "sessions": Family(("sessions",), batches(ids), lambda tx, rows: tx.execute(SESSIONS_SQL, rows)),
    }


async def measured(db: Any, family: Family, dropped: dict[str, str]) -> tuple[float, float]:
    """(rows/s, WAL bytes a row) without these indexes, given by name and definition."""
    await db.execute(EMPTY)
    for name in dropped:
        await db.execute(f"DROP INDEX {name}")
    for batch in family.known:
        async with db.transaction():
            await handle(db, batch)
    lsn, started = await db.fetchval("SELECT pg_current_wal_insert_lsn()"), time.perf_counter()
    for batch in family.batches:
        async with db.transaction():
            await family.write(db, batch)
    seconds = time.perf_counter() - started
    wal = await db.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", lsn)
    await db.execute(EMPTY)
    for definition in dropped.values():
        await db.execute(definition)
    rows = sum(map(len, family.batches))
    return rows / seconds, float(wal) / rows


async def compare(
    db: Any, name: str, family: Family, indexes: Sequence[Any], sizes: dict[str, float]
) -> None:
    own = {row["name"]: row["definition"] for row in indexes if row["of"] in family.tables}
    variants = list(dict.fromkeys([(), *((index,) for index in own), TOGETHER.get(name, ()), tuple(own)]))
    pairs: dict[tuple[str, ...], list[Any]] = {variant: [] for variant in variants}
    for _ in range(REPEATS):
        for variant in random.sample(variants, len(variants)):
            sides = [{}, {index: own[index] for index in variant}]
            turn = random.choice((1, -1))
            runs = [await measured(db, family, dropped) for dropped in sides[::turn]]
            pairs[variant].append(runs[::turn])
    for variant, results in pairs.items():
        ratios = sorted(without[0] / whole[0] for whole, without in results)
        label = "+".join(variant) if len(variant) < 3 else f"all {len(variant)}"
        size = sum(sizes[index] for index in variant) / 1e6
        rate, wal, rate2, wal2 = (median(run[side][n] for run in results) for side in (0, 1) for n in (0, 1))
        spread = f"{median(ratios):7.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        written = f"{wal:11.0f}{wal2:9.0f}{wal2 / wal:7.2f}"
        print(
            f"{name:9}{label or 'control':46}{size:8.1f}{rate:9.0f}{rate2:9.0f}{spread}{written}", flush=True
        )


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
        head = f"{'written':9}{'dropped':46}{'MB/100k':>8}{'rows/s':>9}{'without':>9}"
        print(f"{head}{'ratio':>7} (spread)     WAL B/row  without  ratio")
        for name, family in families().items():
            await compare(db, name, family, indexes, sizes)
        left = await db.fetch(INDEXES)
        assert left == indexes, "what was dropped must have come back as it was"
        await db.close()


if __name__ == "__main__":
    asyncio.run(main())
