"""The read API: routes, their parameters, and the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Litestar, Response, Router, get
from litestar.config.compression import CompressionConfig
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from handlers import views
from handlers.http import EXCEPTION_HANDLERS, AnyRequest, Measure, Metrics, answer, bearer_guard, pick
from handlers.paging import MAX_CURSOR, MAX_LIMIT, ParameterError, choose, encode
from handlers.queries import AgentFilters, PageRequest, Pool, Queries, TaskFilters
from handlers.reads import Cache, Reads
from schemas.agents import AgentStatus
from schemas.cache import Period

Fields = Annotated[
    str | None, QueryParameter(max_length=1000, description="Names of fields, separated by commas.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Rows of a page.")]
Cursor = Annotated[
    str | None, QueryParameter(max_length=MAX_CURSOR, description="`pagination.cursor` of the page before.")
]
Kind = Annotated[str | None, QueryParameter(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Since = Annotated[datetime | None, QueryParameter(description="At or after this instant; with a zone.")]
Until = Annotated[datetime | None, QueryParameter(description="Before this instant; with a zone.")]

Answer = Response[bytes]
_INERT: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
Readable = NamedDependency[SkipValidation[Reads]]


def _check_instant(name: str, moment: datetime | None) -> None:
    """Without a zone it could mean two dozen instants; before 1970 or after 9998 it is none of ours."""
    if moment is not None and (moment.tzinfo is None or not 1970 <= moment.year <= 9998):
        raise ParameterError(name, "must be an instant with a zone, as in 2026-11-23T08:00:00Z")


def _shows(view: Any) -> dict[int, ResponseSpec]:
    return {200: ResponseSpec(view, generate_examples=False)}


@get("/agents", responses=_shows(views.AgentPage))
async def list_agents(
    request: AnyRequest,
    reads: Readable,
    status: FromQuery[AgentStatus | None] = None,
    is_active: FromQuery[bool | None] = None,
    fields: Fields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """Agents, in the order of their ids."""
    names = choose(fields, views.AGENT, views.AGENT)
    return answer(
        request, await reads.agents(AgentFilters(status, is_active), PageRequest(limit, cursor), names)
    )


@get("/agents/{agent_id:uuid}", responses=_shows(views.Agent))
async def get_agent(
    request: AnyRequest, reads: Readable, agent_id: FromPath[UUID], fields: Fields = None
) -> Answer:
    """One agent."""
    names = choose(fields, views.AGENT, ()) or None
    found = await reads.agent(agent_id)
    return answer(request, found, body=pick(found, names))


@get("/agents/{agent_id:uuid}/tasks", responses=_shows(views.TaskPage))
async def list_agent_tasks(
    request: AnyRequest,
    reads: Readable,
    agent_id: FromPath[UUID],
    status: FromQuery[views.TaskStatus | None] = None,
    fields: Fields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """The tasks that an agent has now, the newest first."""
    names = choose(fields, views.TASK_SUMMARY, views.TASK_SUMMARY)
    filters = TaskFilters(status=status, agent_id=agent_id)
    return answer(request, await reads.tasks(filters, PageRequest(limit, cursor), names))


@get("/users/{user_id:uuid}/tasks", responses=_shows(views.TaskPage))
async def list_user_tasks(
    request: AnyRequest,
    reads: Readable,
    user_id: FromPath[UUID],
    status: FromQuery[views.TaskStatus | None] = None,
    fields: Fields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """A user's tasks, the newest first."""
    names = choose(fields, views.TASK_SUMMARY, views.TASK_SUMMARY)
    filters = TaskFilters(status=status, user_id=user_id)
    return answer(request, await reads.tasks(filters, PageRequest(limit, cursor), names))


@get("/tasks", responses=_shows(views.TaskPage))
async def list_tasks(
    request: AnyRequest,
    reads: Readable,
    status: FromQuery[views.TaskStatus | None] = None,
    agent_id: FromQuery[UUID | None] = None,
    user_id: FromQuery[UUID | None] = None,
    kind: Kind = None,
    created_from: Since = None,
    created_before: Until = None,
    fields: Fields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """Tasks, the newest first; filters are joined by AND."""
    names = choose(fields, views.TASK_SUMMARY, views.TASK_SUMMARY)
    for name, moment in (("created_from", created_from), ("created_before", created_before)):
        _check_instant(name, moment)
    filters = TaskFilters(status, agent_id, user_id, kind, created_from, created_before)
    return answer(request, await reads.tasks(filters, PageRequest(limit, cursor), names))


@get("/tasks/{task_id:uuid}", responses=_shows(views.Task))
async def get_task(
    request: AnyRequest, reads: Readable, task_id: FromPath[UUID], fields: Fields = None
) -> Answer:
    """One task, payload and result included."""
    names = choose(fields, views.TASK, ()) or None
    found = await reads.task(task_id)
    return answer(request, found, body=pick(found, names))


@get("/tasks/{task_id:uuid}/events", responses=_shows(views.HistoryPage))
async def list_task_events(
    request: AnyRequest, reads: Readable, task_id: FromPath[UUID], limit: Limit = 20, cursor: Cursor = None
) -> Answer:
    """What happened to a task, in the order of the events' times."""
    return answer(request, await reads.history(task_id, PageRequest(limit, cursor)))


@get("/rounds/{round_id:uuid}", responses=_shows(views.Round))
async def get_round(request: AnyRequest, reads: Readable, round_id: FromPath[UUID]) -> Answer:
    """A round of votes with its tallies."""
    return answer(request, await reads.round(round_id))


@get("/rounds/{round_id:uuid}/votes", responses=_shows(views.VotePage))
async def list_round_votes(
    request: AnyRequest, reads: Readable, round_id: FromPath[UUID], limit: Limit = 20, cursor: Cursor = None
) -> Answer:
    """The votes of a round, in the order of their agents' ids."""
    return answer(request, await reads.votes(round_id, PageRequest(limit, cursor)))


@get("/leaderboards/{period:str}", responses=_shows(views.Leaderboard))
async def get_leaderboard(request: AnyRequest, reads: Readable, period: FromPath[Period]) -> Answer:
    """The best hundred of today, of this week (from Monday), of this month, or of all time; UTC."""
    return answer(request, await reads.leaderboard(period))


V1: Final = (
    list_agents,
    get_agent,
    list_agent_tasks,
    list_user_tasks,
    list_tasks,
    get_task,
    list_task_events,
    get_round,
    list_round_votes,
    get_leaderboard,
)


@get("/livez", include_in_schema=False)
async def live() -> dict[str, str]:
    return {"status": "live"}


@get("/readyz", include_in_schema=False)
async def ready(reads: Readable) -> Response[bytes]:
    """Without Redis we are slower, not wrong: ready, but it shows."""
    database, cache = await reads.health()
    status = "not ready" if not database else "ready" if cache else "degraded"
    checks = {"postgresql": "up" if database else "down", "redis": "up" if cache else "down"}
    body = encode({"status": status, "checks": checks})
    return Response(body, media_type="application/json", status_code=200 if database else 503)


def create_app(
    *,
    pool: Pool,
    cache: Cache,
    metrics: Metrics,
    api_open: bool,
    documents: Mapping[str, Callable[[], tuple[bytes, str]]] | None = None,
) -> Litestar:
    """The application. It neither opens nor closes what it is given.

    Args:
        api_open: answer without bearer tokens; for development only.
        documents: what else is shown to everybody, by path: functions that return a body and its content
            type. They run in a thread.
    """
    reads = Reads(Queries(pool), cache)

    shown = [_document(path, render) for path, render in (documents or {}).items()]
    v1 = Router(
        "/v1",
        route_handlers=V1,
        guards=[] if api_open else [bearer_guard(reads)],
        security=[] if api_open else [{"bearer": []}],
    )
    return Litestar(
        route_handlers=[v1, live, ready, _measurements(metrics), *shown],
        dependencies={"reads": Provide(lambda: reads, use_cache=True, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[Measure(metrics)],
        compression_config=CompressionConfig(backend="gzip", minimum_size=1024, gzip_compress_level=6),
        openapi_config=_openapi(api_open),
        logging_config=None,  # the process configures logging, not the application
    )


def _measurements(metrics: Metrics) -> HTTPRouteHandler:
    @get("/metrics", include_in_schema=False)
    async def show(request: AnyRequest) -> Answer:
        body, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return show


def _document(path: str, render: Callable[[], tuple[bytes, str]]) -> HTTPRouteHandler:
    """A route that answers with a body and its content type; in a browser it may load and do nothing."""

    @get(path, include_in_schema=False, sync_to_thread=True)
    def show() -> Answer:
        body, content_type = render()
        return Response(body, headers={"Content-Type": content_type, **_INERT})

    return show


def _openapi(api_open: bool) -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="The token of a session.")
    return OpenAPIConfig(
        title="Agent Streams: read API",
        version="1",
        path="/schema",
        # JSON only: the pages that would show it load their scripts from elsewhere.
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
        components=Components() if api_open else Components(security_schemes={"bearer": scheme}),
    )
