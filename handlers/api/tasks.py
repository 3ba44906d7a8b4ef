"""Tasks: lists, one, its history; those of a user."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.params import FromPath, QueryParameter

from handlers import problems, views
from handlers.api.parameters import (
    Answer,
    AnyRequest,
    Cursor,
    EventFields,
    Limit,
    Number,
    OfStatus,
    Readable,
    Since,
    SortTasks,
    SummaryFields,
    TaskFields,
    TaskSort,
    Until,
    instant,
    shows,
)
from handlers.http import answer, pick
from handlers.lists import TaskFilters
from handlers.paging import PageRequest, choose

Kind = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="Exactly this kind of task."
    ),
]

OfAgent = Annotated[
    UUID | None, QueryParameter(name="agent_id", description="Tasks that this agent has now.")
]
OfUser = Annotated[UUID | None, QueryParameter(name="user_id", description="Tasks of this user.")]


async def task_page(
    request: AnyRequest, reads: Readable, filters: TaskFilters, wanted: PageRequest, fields: str | None
) -> Answer:
    """A page of the tasks that match, with the fields that are asked for.

    Raises:
        ParameterError: a field that there is not.
    """
    names = choose(fields, views.TASK_SUMMARY, views.TASK_SUMMARY)
    return answer(request, await reads.tasks(filters, wanted, names))


@get(
    "/tasks",
    tags=["tasks"],
    responses=shows(views.TaskPage, problems.FORBIDDEN, problems.TOO_MANY_RECORDS, problems.BUSY),
)
async def list_tasks(
    request: AnyRequest,
    reads: Readable,
    status: OfStatus = None,
    agent_id: OfAgent = None,
    user_id: OfUser = None,
    kind: Kind = None,
    created_from: Since = None,
    created_before: Until = None,
    sort: SortTasks = TaskSort.NEWEST,
    fields: SummaryFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    page: Number = None,
) -> Answer:
    """Tasks, the newest first; filters are joined by AND.

    Pages by cursor are stable: whatever is created or changed meanwhile, each task that was there before
    the first page is met exactly once, unless it no longer matches the filters.
    """
    since, until = instant("created_from", created_from), instant("created_before", created_before)
    user_id = request.user.confine(user_id)
    filters = TaskFilters(status, agent_id, user_id, kind, since, until)
    return await task_page(request, reads, filters, PageRequest(limit, cursor, page, sort), fields)


@get("/tasks/{task_id:uuid}", tags=["tasks"], responses=shows(views.Task, problems.NOT_FOUND))
async def get_task(
    request: AnyRequest, reads: Readable, task_id: FromPath[UUID], fields: TaskFields = None
) -> Answer:
    """One task, payload and result included."""
    names = choose(fields, views.TASK, ()) or None
    found = await reads.task(task_id)
    request.user.check(found.value)
    return answer(request, found, body=pick(found, names))


@get(
    "/tasks/{task_id:uuid}/events",
    tags=["tasks"],
    responses=shows(views.HistoryPage, problems.NOT_FOUND, problems.BUSY),
)
async def list_task_events(
    request: AnyRequest,
    reads: Readable,
    task_id: FromPath[UUID],
    fields: EventFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """What happened to a task, in the order of the events' times."""
    names = choose(fields, views.EVENT, views.EVENT)
    if not request.user.sees_all:
        request.user.check((await reads.task(task_id)).value)
    return answer(request, await reads.history(task_id, PageRequest(limit, cursor), names))


@get(
    "/users/{user_id:uuid}/tasks",
    tags=["tasks"],
    responses=shows(
        views.TaskPage, problems.FORBIDDEN, problems.NOT_FOUND, problems.TOO_MANY_RECORDS, problems.BUSY
    ),
)
async def list_user_tasks(
    request: AnyRequest,
    reads: Readable,
    user_id: FromPath[UUID],
    status: OfStatus = None,
    sort: SortTasks = TaskSort.NEWEST,
    fields: SummaryFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    page: Number = None,
) -> Answer:
    """A user's tasks, the newest first."""
    filters = TaskFilters(status=status, user_id=request.user.confine(user_id))
    return await task_page(request, reads, filters, PageRequest(limit, cursor, page, sort), fields)


ROUTES: Final = (list_tasks, get_task, list_task_events, list_user_tasks)
