"""Tasks: merged into one row each, with the scores that their ends are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from handlers import scores
from handlers.sql import as_json, columns
from handlers.task_merge import Assignee, Created, Outcome, Progress, Status, Task, fold, join
from schemas import cache
from schemas.contract import Batch, BatchPolicy, Changes, Stream
from schemas.fields import dated
from schemas.tasks import TaskEvent

if TYPE_CHECKING:
    import asyncpg

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


@stream.handler(exchange="tasks", events=TaskEvent, batch=BatchPolicy(size=500, linger=0.02))
async def record_tasks(batch: Batch[TaskEvent], tx: Connection) -> Changes:
    """Merge the events into their tasks, and the tasks' ends into their agents' scores."""
    said = fold(batch.events)
    before = await _insert_or_read(tx, said)
    after = {
        task_id: join(stored, task) if (stored := before.get(task_id)) else task
        for task_id, task in said.items()
    }
    changed = {task_id: task for task_id, task in after.items() if task != before.get(task_id)}
    await _update(tx, before, changed)
    scored = await scores.apply(tx, _score_changes(before, changed))
    return scores.with_scores(_changes(before, changed), scored)


async def _insert_or_read(tx: Connection, said: Mapping[UUID, Task]) -> dict[UUID, Task]:
    """Store the tasks that are new; the others, locked, as they were."""
    rows = [_row(task_id, task) for task_id, task in said.items()]
    new = {row["id"] for row in await tx.fetch(INSERT_OR_LOCK, rows)}
    known = [row[:2] for row in rows if row[0] not in new]
    if not known:
        return {}
    return {row["id"]: _read(row) for row in await tx.fetch(SELECT_LOCKED, *columns(known))}


async def _update(tx: Connection, before: Mapping[UUID, Task], changed: Mapping[UUID, Task]) -> None:
    rows = [
        _row(task_id, task, task.created is not stored.created, task.outcome is not stored.outcome)
        for task_id, task in changed.items()
        if (stored := before.get(task_id))
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
        task.status_name,
        *((created.kind, created.user_id, created.priority) if created else (None, None, 0)),
        task.agent_id,
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


def _score_changes(before: Mapping[UUID, Task], changed: Mapping[UUID, Task]) -> scores.Deltas:
    deltas = scores.Deltas()
    for task_id, task in changed.items():
        stored = before.get(task_id)
        deltas.move(_contribution(stored) if stored else None, _contribution(task))
    return deltas


def _contribution(task: Task) -> scores.Contribution | None:
    finished_at = task.outcome.finished_at if task.outcome else None
    return scores.of_task(task.agent_id, task.status_name, finished_at)


def _changes(before: Mapping[UUID, Task], changed: Mapping[UUID, Task]) -> Changes:
    """The caches of the tasks, and of their agents and users before and after."""
    touched = [*changed.values(), *(before[task_id] for task_id in changed if task_id in before)]
    agents = {task.agent_id for task in touched} - {None}
    users = {task.user_id for task in touched} - {None}
    keys = {cache.task_key(task_id) for task_id in changed}
    keys |= {cache.agent_stats_key(agent_id) for agent_id in agents if agent_id}
    keys |= {cache.user_tasks_key(user_id) for user_id in users if user_id}
    tags = {cache.agent_tag(agent_id) for agent_id in agents if agent_id}
    tags |= {cache.user_tag(user_id) for user_id in users if user_id}
    return Changes(keys=keys, tags=tags)
