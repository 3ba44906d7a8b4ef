"""What `index_cost` writes: events for the handlers, rows for plain SQL, and tables to be filled."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from handlers import scores
from schemas.agents import AgentStatus
from schemas.envelope import Event
from schemas.ids import uuid7
from streams import outbox
from streams.facts import HISTORY
from tests.making import handle, make

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
USERS_SQL = "INSERT INTO users (id, email) SELECT n, n || '@example.org' FROM unnest($1::uuid[]) n"
SESSIONS_SQL = """INSERT INTO sessions (id, user_id, token_hash, expires_at)
SELECT n, md5(left(n::text, 3))::uuid, uuid_send(n), now() FROM unnest($1::uuid[]) n"""


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


def task_lives(tasks: int = 800, overlap: int = 250) -> list[Event]:
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


def polls(rounds: int = 100, voters: int = 30) -> list[Event]:
    """Rounds with a vote of each of 30 agents; one in ten changes its mind."""
    events: list[Event] = []
    for n in range(rounds):
        round_id, agents = uuid7(), random.sample(AGENTS, voters)
        events.append(make("round.opened", n, round_id=round_id, options=("a", "b"), quorum=20))
        for agent in agents + agents[: voters // 10]:
            at, choice = n + random.random() * 15, random.choice("ab")
            events.append(make("vote.cast", at, round_id=round_id, agent_id=agent, choice=choice))
    return sorted(events, key=lambda event: event.time)


def moves(times: int = 5) -> list[Event]:
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
    past = [(now, id_, "task.created", "s", str(id_), "{}", None, id_) for id_ in ids]
    return {
        "tasks": Family(("tasks",), batches(task_lives()), handle, known),
        "votes": Family(("votes",), batches(polls()), handle, known),
        "agents": Family(("agents",), batches(moves()), handle),
        "scores": Family(("agents", "agent_scores"), [AGENTS] * 20, write_scores, known),
        "history": Family(
            ("event_history",),
            batches(past),
            lambda tx, rows: tx.copy_records_to_table("event_history", records=rows, columns=HISTORY),
        ),
        "outbox": Family(("outbox",), batches(ids[:4000]), write_outbox),
        "users": Family(("users",), batches(ids), lambda tx, rows: tx.execute(USERS_SQL, rows)),
        "sessions": Family(("sessions",), batches(ids), lambda tx, rows: tx.execute(SESSIONS_SQL, rows)),
    }
