"""Agents, their tasks, their figures."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.params import FromPath, QueryParameter

from handlers import problems, views
from handlers.api.parameters import (
    AgentFields,
    Answer,
    AnyRequest,
    Cursor,
    Limit,
    Number,
    OfStatus,
    Readable,
    SortTasks,
    StatsFields,
    SummaryFields,
    TaskSort,
    shows,
)
from handlers.api.tasks import task_page
from handlers.http import answer, pick
from handlers.lists import AgentFilters, TaskFilters
from handlers.paging import PageRequest, ParameterError, choose
from schemas.agents import AgentStatus


class Include(StrEnum):
    """What comes with each agent."""

    TASKS = "tasks"


class AgentSort(StrEnum):
    """By id, newest first, or highest reputation first."""

    ID = "id"
    NEWEST = "-created_at"
    BEST = "-reputation_score"


OfAgentStatus = Annotated[
    AgentStatus | None, QueryParameter(name="status", description="Agents of this status only.")
]
Active = Annotated[
    bool | None, QueryParameter(name="is_active", description="Agents that are in service, or that are not.")
]
With = Annotated[
    Include | None, QueryParameter(name="include", description="`tasks`: each agent with its newest tasks.")
]
SortAgents = Annotated[
    AgentSort, QueryParameter(name="sort", description="By id, newest first, or highest reputation first.")
]
TasksLimit = Annotated[
    int, QueryParameter(ge=1, le=20, description="With include=tasks: tasks of each agent.")
]


@get(
    "/agents",
    tags=["agents"],
    responses=shows(views.AgentPage, problems.TOO_MANY_RECORDS, problems.BUSY),
)
async def list_agents(
    request: AnyRequest,
    reads: Readable,
    status: OfAgentStatus = None,
    is_active: Active = None,
    include: With = None,
    tasks_limit: TasksLimit = 5,
    sort: SortAgents = AgentSort.ID,
    fields: AgentFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    page: Number = None,
) -> Answer:
    """Agents; with include=tasks each with its newest tasks, read in one statement.

    By reputation, pages are of the moment that each is read: an agent whose score changes meanwhile may be
    met twice or not at all.
    """
    names = choose(fields, views.AGENT, views.AGENT)
    filters, wanted = AgentFilters(status, is_active), PageRequest(limit, cursor, page, sort)
    if include is None:
        return answer(request, await reads.agents(filters, wanted, names))
    if page is not None:
        raise ParameterError("page", "cannot be combined with include=tasks; pass pagination.cursor on")
    user_id = request.user.confine(None)
    return answer(request, await reads.agents_with_tasks(filters, wanted, names, tasks_limit, user_id))


@get("/agents/{agent_id:uuid}", tags=["agents"], responses=shows(views.Agent, problems.NOT_FOUND))
async def get_agent(
    request: AnyRequest, reads: Readable, agent_id: FromPath[UUID], fields: AgentFields = None
) -> Answer:
    """One agent."""
    names = choose(fields, views.AGENT, ()) or None
    found = await reads.agent(agent_id)
    return answer(request, found, body=pick(found, names))


@get(
    "/agents/{agent_id:uuid}/stats",
    tags=["agents"],
    responses=shows(views.AgentStats, problems.NOT_FOUND, problems.BUSY),
)
async def get_agent_stats(
    request: AnyRequest, reads: Readable, agent_id: FromPath[UUID], fields: StatsFields = None
) -> Answer:
    """An agent's tasks by status, its success, its points by period, and how long its tasks take.

    Periods are of the calendar, UTC; weeks begin on Monday. Tasks that ended count since the first of them,
    those that were removed after their retention included.
    """
    names = choose(fields, views.STATS, ()) or None
    found = await reads.agent_stats(agent_id)
    return answer(request, found, body=pick(found, names))


@get(
    "/agents/{agent_id:uuid}/tasks",
    tags=["agents", "tasks"],
    responses=shows(views.TaskPage, problems.NOT_FOUND, problems.TOO_MANY_RECORDS, problems.BUSY),
)
async def list_agent_tasks(
    request: AnyRequest,
    reads: Readable,
    agent_id: FromPath[UUID],
    status: OfStatus = None,
    sort: SortTasks = TaskSort.NEWEST,
    fields: SummaryFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    page: Number = None,
) -> Answer:
    """The tasks that an agent has now, the newest first; an agent that nobody knows has none."""
    filters = TaskFilters(status=status, agent_id=agent_id, user_id=request.user.confine(None))
    return await task_page(request, reads, filters, PageRequest(limit, cursor, page, sort), fields)


ROUTES: Final = (list_agents, get_agent, get_agent_stats, list_agent_tasks)
