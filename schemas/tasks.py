"""Tasks: a piece of work that an agent does, from its creation to its end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.envelope import Data, Event
from schemas.fields import DatedId, Fraction, JsonObject, Name, Text


class TaskData(Data):
    task_id: DatedId


class TaskEventBase(Event):
    exchange: ClassVar[str] = "tasks"
    entity: ClassVar[str] = "task_id"
    dated_ids: ClassVar[tuple[str, ...]] = ("task_id",)


class CreatedData(TaskData):
    kind: Name
    agent_id: UUID | None = None
    user_id: UUID | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    payload: JsonObject = Field(default_factory=dict)


class AssignedData(TaskData):
    agent_id: UUID


class StartedData(TaskData):
    agent_id: UUID | None = None


class ProgressedData(TaskData):
    progress: Fraction
    note: Text | None = None


class CompletedData(TaskData):
    result: JsonObject = Field(default_factory=dict)


class TaskError(Data):
    code: Name
    message: Text


class FailedData(TaskData):
    error: TaskError
    retryable: bool = False


class CancelledData(TaskData):
    reason: Text | None = None


class TaskCreated(TaskEventBase):
    rank: ClassVar[int] = 0
    type: Literal["task.created"] = "task.created"
    data: CreatedData


class TaskAssigned(TaskEventBase):
    rank: ClassVar[int] = 1
    type: Literal["task.assigned"] = "task.assigned"
    data: AssignedData


class TaskStarted(TaskEventBase):
    rank: ClassVar[int] = 2
    type: Literal["task.started"] = "task.started"
    data: StartedData


class TaskProgressed(TaskEventBase):
    rank: ClassVar[int] = 3
    type: Literal["task.progressed"] = "task.progressed"
    data: ProgressedData


class TaskFailed(TaskEventBase):
    rank: ClassVar[int] = 4
    type: Literal["task.failed"] = "task.failed"
    data: FailedData


class TaskCompleted(TaskEventBase):
    rank: ClassVar[int] = 5
    type: Literal["task.completed"] = "task.completed"
    data: CompletedData


class TaskCancelled(TaskEventBase):
    rank: ClassVar[int] = 6
    type: Literal["task.cancelled"] = "task.cancelled"
    data: CancelledData


TaskEvent = (
    TaskCreated | TaskAssigned | TaskStarted | TaskProgressed | TaskFailed | TaskCompleted | TaskCancelled
)
