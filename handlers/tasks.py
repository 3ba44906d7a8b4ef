"""Tasks: merged into one row each, with the scores that their ends are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from handlers import scores
from handlers.batches import WRITES
from handlers.sql import as_json, columns
from handlers.task_merge import Assignee, Created, Outcome, Progress, Status, Task, fold, join
from schemas import cache
from schemas.contract import Batch, Changes, Stream
from schemas.fields import dated
from schemas.tasks import TaskEvent

if TYPE_CHECKING:
    from handlers.sql import Connection

stream = Stream("tasks")

# Inserts the tasks that are new and returns their ids; locks the others (see handlers.sql).
INSERT_OR_LOCK: Final = """
INSERT INTO tasks (id, created_at, updated_at, status, kind, user_id, priority, agent_id, progress, note,
    finished_at, retryable, reason, assigned_at, started_at,
    created_stamp, agent_stamp, status_stamp, progress_stamp, outcome_stamp, payload, result, error)
SELECT id, created_at, updated_at, status, kind, user_id, priority, agent_id, progress, note,
    finished_at, retryable, reason, assigned_at, started_at,
    created_stamp, agent_stamp, status_stamp, progress_stamp, outcome_stamp, payload, result, error
FROM unnest($1::task_change[])
ORDER BY id, created_at
ON CONFLICT (id, created_at) DO UPDATE SET updated_at = tasks.updated_at WHERE false
RETURNING id
"""

# What a new task's row is made of: INSERT_OR_LOCK's columns, and the first ones of task_change.
_STORED: Final = (
    "id", "created_at", "updated_at", "status", "kind", "user_id", "priority", "agent_id", "progress", "note",
    "finished_at", "retryable", "reason", "assigned_at", "started_at",
    "created_stamp", "agent_stamp", "status_stamp", "progress_stamp", "outcome_stamp",
    "payload", "result", "error",
)  # fmt: skip
LOAD: Final = 500  # tasks; a savepoint is two round trips more

# The locked tasks as they are, without their large values; each is looked up in its own partition.
SELECT_LOCKED: Final = """
SELECT t.id, t.updated_at, t.status, t.kind, t.user_id, t.priority, t.agent_id, t.progress, t.note,
    t.finished_at, t.retryable, t.reason, t.assigned_at, t.started_at,
    t.created_stamp, t.agent_stamp, t.status_stamp, t.progress_stamp, t.outcome_stamp
FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, created_at)
JOIN tasks t ON t.id = n.id AND t.created_at = n.created_at
"""

# Writes what changed; large values only where the event that sets them is a new one.
UPDATE_CHANGED: Final = """
UPDATE tasks t SET
    updated_at = n.updated_at, status = n.status, kind = n.kind, user_id = n.user_id, priority = n.priority,
    agent_id = n.agent_id, progress = n.progress, note = n.note, finished_at = n.finished_at,
    retryable = n.retryable, reason = n.reason, assigned_at = n.assigned_at, started_at = n.started_at,
    created_stamp = n.created_stamp, agent_stamp = n.agent_stamp, status_stamp = n.status_stamp,
    progress_stamp = n.progress_stamp, outcome_stamp = n.outcome_stamp,
    payload = CASE WHEN n.other_creation THEN n.payload ELSE t.payload END,
    result = CASE WHEN n.other_outcome THEN n.result ELSE t.result END,
    error = CASE WHEN n.other_outcome THEN n.error ELSE t.error END
FROM unnest($1::task_change[]) AS n
WHERE t.id = n.id AND t.created_at = n.created_at
"""


class Move(NamedTuple):
    """A task that the batch changed; `before` is None for a new one."""

    task_id: UUID
    before: Task | None
    after: Task


@stream.handler(exchange="tasks", events=TaskEvent, batch=WRITES)
async def record_tasks(batch: Batch[TaskEvent], tx: Connection) -> Changes:
    """Merge the events into their tasks, and the tasks' ends into their agents' scores."""
    said = fold(batch.events)
    stored = {} if await _copied(tx, batch, said) else await _insert_or_read(tx, said)
    moves = _merge(stored, said)
    await _update(tx, moves)
    scored = await scores.apply(tx, _score_changes(moves))
    return scores.with_scores(_changes(moves), scored)


async def _copied(tx: Connection, batch: Batch[TaskEvent], said: Mapping[UUID, Task]) -> bool:
    """Store the tasks by COPY, at half of what INSERT_OR_LOCK costs PostgreSQL, if they are many and all of
    them new. False, and nothing stored, if they are not.

    They go in by the order of their ids, as everybody locks: two that meet wait in one direction only. Not
    just the new ones of a batch, for a second pass over the others would be a second order.
    """
    if len(said) < LOAD or batch.repeats or not all(task.created for task in said.values()):
        return False
    records = [_row(task_id, task)[: len(_STORED)] for task_id, task in said.items()]
    try:
        async with tx.transaction():
            await tx.copy_records_to_table("tasks", records=records, columns=_STORED)
    except asyncpg.UniqueViolationError:
        return False
    return True


def _merge(stored: Mapping[UUID, Task], said: Mapping[UUID, Task]) -> list[Move]:
    """The tasks that are others now."""
    moves = []
    for task_id, task in said.items():
        before = stored.get(task_id)
        after = task if before is None else join(before, task)
        if after != before:
            moves.append(Move(task_id, before, after))
    return moves


async def _insert_or_read(tx: Connection, said: Mapping[UUID, Task]) -> dict[UUID, Task]:
    """Store the tasks that are new; the others, locked, as they were."""
    rows = [_row(task_id, task) for task_id, task in said.items()]
    new = {row["id"] for row in await tx.fetch(INSERT_OR_LOCK, rows)}
    known = [row[:2] for row in rows if row[0] not in new]
    if not known:
        return {}
    return {row["id"]: _read(row) for row in await tx.fetch(SELECT_LOCKED, *columns(known))}


async def _update(tx: Connection, moves: Sequence[Move]) -> None:
    rows = [
        _row(task_id, task, task.created is not before.created, task.outcome is not before.outcome)
        for task_id, before, task in moves
        if before is not None
    ]
    if rows:
        await tx.execute(UPDATE_CHANGED, rows)


def _row(task_id: UUID, task: Task, *other: bool) -> tuple[Any, ...]:
    """A task_change. `other`: whether its creation and its outcome are others than those stored."""
    created, assignee, status, progress, outcome = task[1:6]
    return (
        task_id,
        dated(task_id),
        task.updated_at,
        status.status if status else "pending",
        *((created.kind, created.user_id, created.priority) if created else (None, None, 0)),
        assignee.agent_id if assignee else None,
        *((progress.progress, progress.note) if progress else (None, None)),
        *((outcome.finished_at, outcome.retryable, outcome.reason) if outcome else (None, None, None)),
        task.assigned_at,
        task.started_at,
        created.stamp if created else None,
        assignee.stamp if assignee else None,
        status.stamp if status else None,
        progress.stamp if progress else None,
        outcome.stamp if outcome else None,
        as_json(created.payload) if created else None,
        as_json(outcome.result) if outcome else None,
        as_json(outcome.error) if outcome else None,
        *(other or (True, True)),
    )


def _read(row: asyncpg.Record) -> Task:
    """A row of SELECT_LOCKED."""
    (
        _, updated_at, status, kind, user_id, priority, agent_id, progress, note, finished_at, retryable,
        reason, assigned_at, started_at, created_stamp, agent_stamp, status_stamp, progress_stamp,
        outcome_stamp,
    ) = row  # fmt: skip
    return Task(
        updated_at,
        Created(created_stamp, kind, user_id, priority, None) if created_stamp else None,
        Assignee(agent_stamp, agent_id) if agent_stamp else None,
        Status(status_stamp, status) if status_stamp else None,
        Progress(progress_stamp, progress, note) if progress_stamp else None,
        Outcome(outcome_stamp, finished_at, None, None, retryable, reason) if outcome_stamp else None,
        assigned_at,
        started_at,
    )


def _score_changes(moves: Sequence[Move]) -> scores.Deltas:
    deltas = scores.Deltas()
    for _, before, task in moves:
        deltas.move(_contribution(before) if before else None, _contribution(task))
    return deltas


def _contribution(task: Task) -> scores.Contribution | None:
    if task.outcome is None or task.assignee is None:
        return None
    return scores.of_task(task.assignee.agent_id, task.status_name, task.outcome.finished_at)


def _changes(moves: Sequence[Move]) -> Changes:
    """The caches of the tasks, and of their agents and users before and after."""
    touched = [task for move in moves for task in (move.before, move.after) if task is not None]
    agents = {task.assignee.agent_id for task in touched if task.assignee}
    users = {task.created.user_id for task in touched if task.created and task.created.user_id}
    keys = {cache.task_key(move.task_id) for move in moves}
    keys.update(map(cache.agent_stats_key, agents), map(cache.user_tasks_key, users))
    tags = {*map(cache.agent_tag, agents), *map(cache.user_tag, users)}
    return Changes(keys, tags)
