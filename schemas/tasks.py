"""Tasks: a piece of work that an agent does, from its creation to its end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.envelope import Data, Event
from schemas.fields import DatedId, Fraction, JsonObject, Name, Text


class TaskData(Data):
    task_id: DatedId
    """The task. A UUIDv7: its milliseconds are when the task was created."""


class TaskEventBase(Event):
    exchange: ClassVar[str] = "tasks"
    entity: ClassVar[str] = "task_id"
    dated_ids: ClassVar[tuple[str, ...]] = ("task_id",)


class CreatedData(TaskData):
    kind: Annotated[Name, Field(examples=["research"])]
    """What sort of work it is."""
    agent_id: UUID | None = None
    """The agent that has the task, if one has it already."""
    user_id: UUID | None = None
    """The user that the task is done for."""
    priority: Annotated[int, Field(ge=0, le=9, examples=[5])] = 0
    """0 to 9; only kept and shown, nothing here is ordered by it."""
    payload: Annotated[JsonObject, Field(examples=[{"topic": "owls"}])] = Field(default_factory=dict)
    """What the agent is to work on."""


class AssignedData(TaskData):
    agent_id: UUID
    """The agent that has the task now."""


class StartedData(TaskData):
    agent_id: UUID | None = None
    """The agent that works on it; left out: whoever has the task."""


class ProgressedData(TaskData):
    progress: Annotated[Fraction, Field(examples=[0.4])]
    """How much is done."""
    note: Annotated[Text | None, Field(examples=["read 12 of 30 papers"])] = None
    """For people."""


class CompletedData(TaskData):
    result: Annotated[JsonObject, Field(examples=[{"summary": "Owls see well in the dark."}])] = Field(
        default_factory=dict
    )
    """What came out."""


class TaskError(Data):
    code: Annotated[Name, Field(examples=["model_timeout"])]
    """For machines."""
    message: Annotated[Text, Field(examples=["the model did not answer within 60 s"])]
    """For people."""


class FailedData(TaskData):
    error: TaskError
    """What went wrong."""
    retryable: Annotated[bool, Field(examples=[True])] = False
    """Whether another attempt may succeed."""


class CancelledData(TaskData):
    reason: Annotated[Text | None, Field(examples=["no longer needed"])] = None
    """For people."""


class TaskCreated(TaskEventBase):
    """A task exists. It is `pending` until somebody has it."""

    rank: ClassVar[int] = 0
    type: Literal["task.created"] = "task.created"
    data: CreatedData


class TaskAssigned(TaskEventBase):
    """An agent has the task; whoever had it before does not any more."""

    rank: ClassVar[int] = 1
    type: Literal["task.assigned"] = "task.assigned"
    data: AssignedData


class TaskStarted(TaskEventBase):
    """Work on the task began, for the first time or once more after a failure."""

    rank: ClassVar[int] = 2
    type: Literal["task.started"] = "task.started"
    data: StartedData


class TaskProgressed(TaskEventBase):
    """How far the work is."""

    rank: ClassVar[int] = 3
    type: Literal["task.progressed"] = "task.progressed"
    data: ProgressedData


class TaskFailed(TaskEventBase):
    """An attempt failed. The task may start again."""

    rank: ClassVar[int] = 4
    type: Literal["task.failed"] = "task.failed"
    data: FailedData


class TaskCompleted(TaskEventBase):
    """The task is done."""

    rank: ClassVar[int] = 5
    type: Literal["task.completed"] = "task.completed"
    data: CompletedData


class TaskCancelled(TaskEventBase):
    """The task will not be done."""

    rank: ClassVar[int] = 6
    type: Literal["task.cancelled"] = "task.cancelled"
    data: CancelledData


TaskEvent = (
    TaskCreated | TaskAssigned | TaskStarted | TaskProgressed | TaskFailed | TaskCompleted | TaskCancelled
)
