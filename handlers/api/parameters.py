"""What routes have in common: parameters, answers, documented errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter, SkipValidation

from handlers import problems, views
from handlers.access import Viewer
from handlers.paging import MAX_CURSOR, MAX_LIMIT, MAX_RECORDS, ParameterError
from handlers.reads import Reads

AnyRequest = Request[Viewer, Any, Any]
Answer = Response[bytes]
Readable = NamedDependency[SkipValidation[Reads]]


def picks(names: Sequence[str]) -> QueryParameter:
    """The parameter that chooses fields."""
    return QueryParameter(
        max_length=1000,
        description=f"Only these fields, separated by commas, out of: {', '.join(names)}.",
    )


AgentFields = Annotated[str | None, picks(views.AGENT)]
StatsFields = Annotated[str | None, picks(views.STATS)]
SummaryFields = Annotated[str | None, picks(views.TASK_SUMMARY)]
TaskFields = Annotated[str | None, picks(views.TASK)]
EventFields = Annotated[str | None, picks(views.EVENT)]
RoundFields = Annotated[str | None, picks(views.ROUND)]
VoteFields = Annotated[str | None, picks(views.VOTE)]
RankFields = Annotated[str | None, picks(views.RANK)]

OfStatus = Annotated[
    views.TaskStatus | None, QueryParameter(name="status", description="Tasks of this status only.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Rows of a page, at most.")]
Cursor = Annotated[
    str | None, QueryParameter(max_length=MAX_CURSOR, description="`pagination.cursor` of the page before.")
]
Number = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        le=MAX_RECORDS,
        description="The page of this number instead of one by cursor, with the total; for sets of at most "
        f"{MAX_RECORDS:,} records, others are refused. Rows that come and go meanwhile shift it.",
    ),
]


class TaskSort(StrEnum):
    """Newest or oldest first."""

    NEWEST = "-created_at"
    OLDEST = "created_at"


SortTasks = Annotated[
    TaskSort, QueryParameter(name="sort", description="By creation: newest or oldest first.")
]
_RFC_3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}")
_INSTANT: Final[dict[str, Any]] = {"max_length": 40, "schema_extra": {"format": "date-time"}}
Since = Annotated[
    str | None, QueryParameter(description="At or after this instant; with a zone.", **_INSTANT)
]
Until = Annotated[str | None, QueryParameter(description="Before this instant; with a zone.", **_INSTANT)]

COMMON: Final = (problems.INTERNAL, problems.UNAVAILABLE, problems.TIMEOUT)
GUARDED: Final = (problems.UNAUTHORIZED, problems.RATE_LIMITED, *COMMON)


def shows(view: Any, *more: problems.Kind, media_type: str = "application/json") -> dict[int, ResponseSpec]:
    """The documented answers of a route under /v1: the view, 304, and the problems it may end in."""
    return {
        200: _spec(view, media_type),
        304: ResponseSpec(
            None, description="The client has it already: its `If-None-Match` holds the `ETag`."
        ),
        **refusals(problems.INVALID, *more, *GUARDED),
    }


def refusals(*kinds: problems.Kind) -> dict[int, ResponseSpec]:
    """Problems by status; several of one status share an entry."""
    by_status: dict[int, list[problems.Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: ResponseSpec(
            views.Problem,
            media_type=problems.MEDIA_TYPE,
            generate_examples=False,
            description=" / ".join(f"{kind.title} (`{kind.uri}`)." for kind in several),
        )
        for status, several in sorted(by_status.items())
    }


async def refuse_unknown(request: AnyRequest) -> None:
    """Runs before a route: a filter with a typing error must not mean "no filter".

    Raises:
        ParameterError: the route takes no such parameter.
    """
    if request.scope["query_string"]:
        known = _taken(request.route_handler)
        for name in request.query_params:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise ParameterError(name[:100], f"is not taken here; this route takes: {listed}")


@cache
def _taken(handler: BaseRouteHandler) -> tuple[str, ...]:
    """The query parameters of a route."""
    return tuple(
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    )


def instant(name: str, text: str | None) -> datetime | None:
    """The instant in a parameter.

    A number is none, and one without a zone could mean two dozen.

    Raises:
        ParameterError: it is none, or none of ours.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text if _RFC_3339.match(text) else "")
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= 9998:
        raise ParameterError(name, "must be an instant with a zone, as in 2026-11-23T08:00:00Z")
    return moment


def _spec(view: Any, media_type: str) -> ResponseSpec:
    return ResponseSpec(view, media_type=media_type, generate_examples=False, description=_first_line(view))


def _first_line(view: Any) -> str:
    return str(view.__doc__ or "").strip().partition("\n")[0] or "Rows, and where the next page begins."
