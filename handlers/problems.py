"""What can go wrong, as problem details (RFC 9457): a table of kinds, each with a page of its own."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import asyncpg
import orjson
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from handlers.gate import Busy
from handlers.paging import ParameterError, TooManyRecords

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_MAX_INSTANCE: Final = 200
_UNAVAILABLE: Final = (
    TimeoutError,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)

AnyRequest = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: `/problems/<name>` shows it, docs/api.md lists it."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def uri(self) -> str:
        return f"/problems/{self.name}"


INVALID: Final = Kind(
    "invalid-request",
    400,
    "The request is not valid",
    "A parameter, or the request itself, cannot be meant as it is.",
    "`errors` names each parameter with what is wrong about it; correct it before you ask again.",
)
TOO_MANY_RECORDS: Final = Kind(
    "too-many-records",
    400,
    "The set is too large for numbered pages",
    "`page` was given for a list of more than 10,000 records.",
    "Leave `page` out and pass `pagination.cursor` of each page on to the next, or filter more narrowly.",
)
UNAUTHORIZED: Final = Kind(
    "unauthorized",
    401,
    "A valid token is needed",
    "No bearer token came with the request, or it belongs to no session, or to one that is over.",
    "Send `Authorization: Bearer <token>` with the token of a session that goes on.",
)
FORBIDDEN: Final = Kind(
    "forbidden",
    403,
    "Not yours to see",
    "The session is valid, but what was asked for belongs to another user.",
    "Ask for what is yours, or use a session with the role `operator`.",
)
NOT_FOUND: Final = Kind(
    "not-found",
    404,
    "Nothing is known by that name",
    "No such route, or no such task, agent or round (or none that you may see).",
    "Look at the id. What was published just now shows within milliseconds; then repeat it once.",
)
METHOD_NOT_ALLOWED: Final = Kind(
    "method-not-allowed",
    405,
    "This API is for reading",
    "The route does not take this method.",
    "Use one of the methods in the header `Allow`. Writing is done by publishing events.",
)
RATE_LIMITED: Final = Kind(
    "rate-limited",
    429,
    "Too many requests",
    "More requests came in than the limit of this user (or, without tokens, of this address) allows.",
    "Wait for the seconds in `Retry-After`. `RateLimit` says on every answer what is left.",
)
TOO_MANY_FAILURES: Final = Kind(
    "too-many-failures",
    429,
    "Too many wrong tokens",
    "Many requests with unknown tokens came from this address; tokens that were good lately still work.",
    "Wait for the seconds in `Retry-After`, and look for the client that sends a token that is over.",
)
INTERNAL: Final = Kind(
    "internal",
    500,
    "Something went wrong on our side",
    "An error that nobody foresaw; it is in our log under the `trace_id`.",
    "Report it with the `trace_id`. Repeating it once is harmless.",
)
BUSY: Final = Kind(
    "busy",
    503,
    "Too many heavy requests",
    "Requests that read many rows run a few at a time, and the queue before them is full.",
    "Repeat it after the seconds in `Retry-After`; ask for less at a time.",
)
UNAVAILABLE: Final = Kind(
    "unavailable",
    503,
    "The database does not answer",
    "PostgreSQL is down or too slow, and what was asked for is not in the caches.",
    "Repeat it after the seconds in `Retry-After`.",
)
TIMEOUT: Final = Kind(
    "timeout",
    503,
    "The request took too long",
    "It was given up after the time that a request, or a statement of it, may take.",
    "Narrow it: filter by agent, user or date, or ask for a smaller page.",
)

KINDS: Final = (
    INVALID,
    TOO_MANY_RECORDS,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    RATE_LIMITED,
    TOO_MANY_FAILURES,
    INTERNAL,
    BUSY,
    UNAVAILABLE,
    TIMEOUT,
)
_BY_STATUS: Final = {
    kind.status: kind
    for kind in (INVALID, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED, RATE_LIMITED, INTERNAL)
}


class Refused(HTTPException):
    """A request that is answered with a problem of a kind."""

    def __init__(self, kind: Kind, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail, status_code=kind.status, headers=headers)
        self.kind = kind


class OutOfTime(Exception):
    """The time that a request may take is over."""


def body_of(kind: Kind | None, status: int, detail: str, path: str, trace_id: str, **more: object) -> bytes:
    """The JSON of a problem. Without a kind: `about:blank`, where the status says it all."""
    members = {
        "type": kind.uri if kind else "about:blank",
        "title": kind.title if kind else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path.encode("ascii", "replace").decode()[:_MAX_INSTANCE],
        "trace_id": trace_id,
    }
    return orjson.dumps(members | more)


def trace_id_of(request: AnyRequest) -> str:
    return str(request.scope["state"].get("trace_id", ""))


def _answer(
    request: AnyRequest,
    kind: Kind | None,
    detail: str,
    *,
    status: int | None = None,
    headers: dict[str, str] | None = None,
    **more: object,
) -> Response[bytes]:
    status = status or (kind.status if kind else 500)
    body = body_of(kind, status, detail, request.scope["path"], trace_id_of(request), **more)
    return Response(body, media_type=MEDIA_TYPE, status_code=status, headers=headers)


def _http(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    kind = error.kind if isinstance(error, Refused) else _BY_STATUS.get(error.status_code)
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() != "allow"}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, HEAD, OPTIONS"
    detail = error.detail if isinstance(error, Refused) else kind.meaning if kind else error.detail
    return _answer(request, kind, detail, status=error.status_code, headers=headers)


def _validation(request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """Name and fault of each parameter."""
    items = error.extra if isinstance(error.extra, list) else []
    errors = [
        {"parameter": _sent_as(request, str(i.get("key", ""))), "message": str(i.get("message", ""))}
        for i in items
    ]
    return _invalid(request, errors)


def _sent_as(request: AnyRequest, argument: str) -> str:
    """The name that a parameter has in a request; our argument may have another."""
    field = request.route_handler.parsed_fn_signature.parameters.get(argument)
    return getattr(getattr(field, "kwarg_definition", None), "name", None) or argument


def _parameter(request: AnyRequest, error: ParameterError) -> Response[bytes]:
    return _invalid(request, [{"parameter": error.name, "message": str(error)}])


def _invalid(request: AnyRequest, errors: list[dict[str, str]]) -> Response[bytes]:
    names = ", ".join(sorted({error["parameter"] for error in errors}))
    return _answer(request, INVALID, f"look at: {names}"[:_MAX_INSTANCE], errors=errors)


def _too_many_records(request: AnyRequest, error: TooManyRecords) -> Response[bytes]:
    return _answer(request, TOO_MANY_RECORDS, str(error))


def _busy(request: AnyRequest, error: Busy) -> Response[bytes]:
    return _answer(request, BUSY, str(error), headers={"Retry-After": "1"})


def _out_of_time(request: AnyRequest, _: Exception) -> Response[bytes]:
    return _answer(request, TIMEOUT, TIMEOUT.meaning, headers={"Retry-After": "1"})


def _unavailable(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.warning("a read failed", error=type(error).__name__, trace_id=trace_id_of(request))
    detail = "the database does not answer; try again"
    return _answer(request, UNAVAILABLE, detail, headers={"Retry-After": "1"})


def _unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("a request failed", exc_info=error, trace_id=trace_id_of(request))
    return _answer(request, INTERNAL, INTERNAL.meaning)


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    HTTPException: _http,
    ValidationException: _validation,
    ParameterError: _parameter,
    TooManyRecords: _too_many_records,
    Busy: _busy,
    **dict.fromkeys(_UNAVAILABLE, _unavailable),
    **dict.fromkeys((OutOfTime, asyncpg.QueryCanceledError), _out_of_time),  # statement_timeout
    Exception: _unexpected,
}
