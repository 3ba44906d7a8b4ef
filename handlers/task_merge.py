"""Tasks as values: what one event says about a task, and how accounts of one task are joined.

The columns of a task come in groups; each group is set by one event, the greatest of those that may set
it. `join` is commutative, associative and idempotent: any order, any grouping and any number of repeats
give one result. docs/merge-table.md says the same column by column.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, assert_never
from uuid import UUID

from handlers.merging import latest, newest
from schemas.tasks import (
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskEvent,
    TaskFailed,
)


class Created(NamedTuple):
    stamp: bytes
    kind: str
    user_id: UUID | None
    priority: int
    payload: dict[str, Any] | None
    """None in a row that was read: large values stay in the database."""


class Assignee(NamedTuple):
    stamp: bytes
    agent_id: UUID


class Status(NamedTuple):
    stamp: bytes
    status: str


class Progress(NamedTuple):
    stamp: bytes
    progress: float
    note: str | None


class Outcome(NamedTuple):
    stamp: bytes
    finished_at: datetime
    result: dict[str, Any] | None = None
    """None in a row that was read, as is `error`."""
    error: dict[str, Any] | None = None
    retryable: bool | None = None
    reason: str | None = None


class Task(NamedTuple):
    """All that is known of a task; None where no event has told."""

    updated_at: datetime
    created: Created | None = None
    assignee: Assignee | None = None
    status: Status | None = None
    progress: Progress | None = None
    outcome: Outcome | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None

    @property
    def status_name(self) -> str:
        return self.status.status if self.status else "pending"


def task_of(event: TaskEvent) -> Task:
    """A task about which only this event is known."""
    # By `type`, not by class: isinstance() on a pydantic model that does not match costs half a microsecond.
    if event.type == "task.created":
        return _created(event)
    stamp, time = event.stamp, event.time
    if event.type == "task.assigned":
        assignee = Assignee(stamp, event.data.agent_id)
        return Task(time, None, assignee, Status(stamp, "assigned"), None, None, time)
    if event.type == "task.started":
        agent_id = event.data.agent_id
        starter = Assignee(stamp, agent_id) if agent_id else None
        return Task(time, None, starter, Status(stamp, "processing"), None, None, None, time)
    if event.type == "task.progressed":
        return Task(time, None, None, None, Progress(stamp, event.data.progress, event.data.note))
    return _ended(event, stamp)


def _created(event: TaskCreated) -> Task:
    stamp, data = event.stamp, event.data
    created = Created(stamp, data.kind, data.user_id, data.priority, data.payload)
    if data.agent_id is None:
        return Task(event.time, created, None, Status(stamp, "pending"))
    return Task(event.time, created, Assignee(stamp, data.agent_id), Status(stamp, "assigned"))


def _ended(event: TaskCompleted | TaskFailed | TaskCancelled, stamp: bytes) -> Task:
    time = event.time
    if event.type == "task.completed":
        status, outcome = "completed", Outcome(stamp, time, event.data.result)
    elif event.type == "task.failed":
        error = {"code": event.data.error.code, "message": event.data.error.message}
        status, outcome = "failed", Outcome(stamp, time, None, error, event.data.retryable)
    elif event.type == "task.cancelled":
        status, outcome = "cancelled", Outcome(stamp, time, reason=event.data.reason)
    else:
        assert_never(event)
    return Task(time, None, None, Status(stamp, status), None, outcome)


def join(first: Task, second: Task) -> Task:
    """What both know together. Groups that the second does not change are the first's own objects."""
    return Task(
        max(first.updated_at, second.updated_at),
        newest(first.created, second.created),
        newest(first.assignee, second.assignee),
        newest(first.status, second.status),
        newest(first.progress, second.progress),
        newest(first.outcome, second.outcome),
        latest(first.assigned_at, second.assigned_at),
        latest(first.started_at, second.started_at),
    )


def fold(events: Iterable[TaskEvent]) -> dict[UUID, Task]:
    """What the events say about each task, in ascending order of the tasks' ids."""
    tasks: dict[UUID, Task] = {}
    for event in events:
        task_id, said = event.data.task_id, task_of(event)
        known = tasks.get(task_id)
        tasks[task_id] = said if known is None else join(known, said)
    return dict(sorted(tasks.items(), key=lambda item: item[0].int))
