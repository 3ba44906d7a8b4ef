"""What the read API answers with: the names of columns, their types, and what they mean.

The fields of a view are the allow-list of `fields=`, and the columns that are read. Rows go from the
database to JSON without becoming instances.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from schemas.agents import AgentStatus
from schemas.cache import Period


class TaskStatus(StrEnum):
    PENDING = "pending"
    ASSIGNED = "assigned"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class TaskSummary:
    """A task in a list. With `fields=`, only what was asked for."""

    id: UUID
    created_at: datetime
    status: TaskStatus
    kind: str | None
    agent_id: UUID | None
    user_id: UUID | None
    priority: int
    progress: float | None
    note: str | None
    error: dict[str, Any] | None
    retryable: bool | None
    reason: str | None
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True)
class Task(TaskSummary):
    """A task. `payload` and `result` may be megabytes: lists leave them out."""

    payload: dict[str, Any] | None
    result: dict[str, Any] | None


@dataclass(frozen=True)
class Agent:
    """An agent; `reputation_score` is the sum of its points of all time."""

    id: UUID
    status: AgentStatus
    name: str | None
    capabilities: list[str]
    is_active: bool
    reputation_score: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class HistoryEvent:
    """One event as its producer sent it."""

    time: datetime
    type: str
    source: str
    id: str
    data: dict[str, Any]
    recorded_at: datetime
    trace_id: str | None


@dataclass(frozen=True)
class Tally:
    """What a choice has: the weight and the number of its votes."""

    choice: str
    weight: float
    votes: int


@dataclass(frozen=True)
class Round:
    """A round of votes. Without `opened_at` it is known from its votes only."""

    id: UUID
    created_at: datetime
    task_id: UUID | None
    options: list[str] | None
    quorum: float | None
    opened_at: datetime | None
    closes_at: datetime | None
    closed_at: datetime | None
    decided_choice: str | None
    decided_at: datetime | None
    decided_votes: int | None
    decided_tally: dict[str, Any] | None
    tallies: list[Tally]


@dataclass(frozen=True)
class Vote:
    """The latest vote of an agent in a round; retracted ones are left out."""

    agent_id: UUID
    choice: str
    weight: float
    confidence: float | None
    rationale: str | None
    cast_at: datetime
    late: bool


@dataclass(frozen=True)
class Rank:
    """A place in a leaderboard; equal points share it."""

    rank: int
    agent_id: UUID
    name: str | None
    points: int
    completed: int
    failed: int
    agreed: int


@dataclass(frozen=True)
class Neighbours:
    """An agent's place in a leaderboard with those around it; `agents` is how many have a place."""

    period: Period
    start: date | None
    end: date | None
    agent_id: UUID
    rank: int
    agents: int
    data: list[Rank]


@dataclass(frozen=True)
class Leaderboard:
    """The best hundred of a period: days from `start` until before `end`, UTC."""

    period: Period
    start: date | None
    end: date | None
    data: list[Rank]


@dataclass(frozen=True)
class ListedAgent(Agent):
    """An agent in a list; `tasks`, its newest, only with `include=tasks`."""

    tasks: list[TaskSummary]


@dataclass(frozen=True)
class TaskCounts:
    """An agent's tasks by their status now; those that ended count for the agent that they ended with."""

    pending: int
    assigned: int
    processing: int
    cancelled: int
    completed: int
    failed: int


@dataclass(frozen=True)
class PeriodStats:
    """From the day `start` (UTC) on; `success_ratio` is completed / (completed + failed)."""

    start: date | None
    points: int
    completed: int
    failed: int
    agreed: int
    success_ratio: float | None


@dataclass(frozen=True)
class Durations:
    """Seconds from start to end of the last hundred completed tasks."""

    tasks: int
    p50_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True)
class AgentStats:
    """What an agent has to do, did, and earned."""

    agent_id: UUID
    tasks: TaskCounts
    success_ratio: float | None
    periods: dict[Period, PeriodStats]
    recent: Durations


@dataclass(frozen=True)
class Pagination:
    """Pass `cursor` to get the next page."""

    cursor: str | None
    has_more: bool


@dataclass(frozen=True)
class Numbering:
    """With `page=`: where this page stands in the whole set."""

    page: int
    limit: int
    total_records: int
    total_pages: int


@dataclass(frozen=True)
class AgentPage:
    """Agents, and where the next page begins."""

    data: list[ListedAgent]
    pagination: Pagination | Numbering


@dataclass(frozen=True)
class TaskPage:
    """Tasks, and where the next page begins."""

    data: list[TaskSummary]
    pagination: Pagination | Numbering


@dataclass(frozen=True)
class RoundPage:
    """Rounds, and where the next page begins."""

    data: list[Round]
    pagination: Pagination | Numbering


@dataclass(frozen=True)
class HistoryPage:
    """Events, and where the next page begins."""

    data: list[HistoryEvent]
    pagination: Pagination


@dataclass(frozen=True)
class VotePage:
    """Votes, and where the next page begins."""

    data: list[Vote]
    pagination: Pagination


@dataclass(frozen=True)
class ParameterFault:
    """A parameter, and what is wrong about it."""

    parameter: str
    message: str


@dataclass(frozen=True)
class Problem:
    """Problem details (RFC 9457).

    `type` is a page that says what to do; `trace_id` finds the request in our logs.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str
    errors: list[ParameterFault] | None = None


@dataclass(frozen=True)
class ProblemKind:
    """What a `type` of problem details stands for."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Liveness:
    """The process runs."""

    status: str


@dataclass(frozen=True)
class Readiness:
    """`degraded` is ready: without Redis or the cache bus we are slower, not wrong."""

    status: str
    checks: dict[str, str]


def names(view: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(view))


TASK: Final = names(Task)
TASK_SUMMARY: Final = names(TaskSummary)
AGENT: Final = names(Agent)
ROUND: Final = names(Round)
VOTE: Final = names(Vote)
EVENT: Final = names(HistoryEvent)
RANK: Final = names(Rank)
STATS: Final = names(AgentStats)
PICKABLE: Final = (TaskSummary, Task, Agent, ListedAgent, AgentStats, HistoryEvent, Round, Vote, Rank)
"""What `fields=` picks from: no field of these is sure to be there."""
