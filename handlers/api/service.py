"""What is shown to everybody: health, metrics, problems, documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromPath

from handlers import views
from handlers.api.parameters import COMMON, Answer, AnyRequest, Readable, refusals
from handlers.paging import encode
from handlers.problems import KINDS, NOT_FOUND, Refused
from handlers.shell import Metrics

_INERT: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}


@get(
    "/livez",
    tags=["service"],
    responses={200: ResponseSpec(views.Liveness, generate_examples=False, description="The process runs.")},
)
async def live() -> Answer:
    """Whether the process runs."""
    return Response(b'{"status":"live"}', media_type="application/json")


@get(
    ["/readyz", "/health"],
    tags=["service"],
    responses={
        200: ResponseSpec(views.Readiness, generate_examples=False, description="It answers requests."),
        503: ResponseSpec(views.Readiness, generate_examples=False, description="The database is away."),
    },
)
async def ready(reads: Readable) -> Answer:
    """Whether requests are answered. Without Redis or the cache bus we are slower, not wrong: ready, but it
    shows."""
    database, cache = await reads.health()
    status = "not ready" if not database else "ready" if cache and reads.hears is not False else "degraded"
    checks = {"postgresql": "up" if database else "down", "redis": "up" if cache else "down"}
    if reads.hears is not None:
        checks["cache_bus"] = "up" if reads.hears else "down"
    body = encode({"status": status, "checks": checks})
    return Response(body, media_type="application/json", status_code=200 if database else 503)


@get(
    "/problems/{name:str}",
    tags=["service"],
    responses={
        200: ResponseSpec(views.ProblemKind, generate_examples=False, description="What it means."),
        **refusals(NOT_FOUND, *COMMON),
    },
)
async def explain_problem(name: FromPath[str]) -> Answer:
    """What a `type` of problem details means, and what to do about it."""
    for kind in KINDS:
        if kind.name == name:
            return Response(encode(asdict(kind)), media_type="application/json")
    raise Refused(NOT_FOUND, "there is no such kind of problem")


ROUTES: Final = (live, ready, explain_problem)


def measurements(metrics: Metrics) -> HTTPRouteHandler:
    """The route that shows metrics to Prometheus."""

    @get("/metrics", include_in_schema=False)
    async def show(request: AnyRequest) -> Answer:
        body, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return show


def documents(rendered: Mapping[str, Callable[[], tuple[bytes, str]]]) -> list[HTTPRouteHandler]:
    """Routes that answer with a body and its content type; in a browser they may load and do nothing."""
    return [_document(path, render) for path, render in rendered.items()]


def _document(path: str, render: Callable[[], tuple[bytes, str]]) -> HTTPRouteHandler:
    @get(path, include_in_schema=False, sync_to_thread=True)
    def show() -> Answer:
        body, content_type = render()
        return Response(body, headers={"Content-Type": content_type, **_INERT})

    return show
