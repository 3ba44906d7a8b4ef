"""HTTP matters that all routes share: who asks, conditional answers, problems, measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b, sha256
from http import HTTPStatus
from typing import Any, Final, Protocol

import asyncpg
import orjson
import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException, NotFoundException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, ExceptionHandlersMap, Guard, Message, Receive, Scope, Send

from handlers.paging import ParameterError
from handlers.reads import Found, Reads

log = structlog.get_logger(__name__)

PROBLEM: Final = "application/problem+json"
_X_CACHE: Final = {"memory": "hit", "redis": "hit", "database": "miss"}
_MAX_TOKEN: Final = 1024
_UNAVAILABLE: Final = (
    TimeoutError,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)

AnyRequest = Request[Any, Any, Any]


class Metrics(Protocol):
    """What the API needs of `streams.telemetry.Metrics`."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None: ...

    def render(self, accept: str = "") -> tuple[bytes, str]: ...


def bearer_guard(reads: Reads) -> Guard:
    """Lets those pass who bring the token of a session; the session becomes the request's `user`."""

    # A function, since Litestar copies guards deeply: an object would take the pool along.
    async def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        scheme, _space, token = connection.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not 0 < len(token) <= _MAX_TOKEN:
            raise _unauthorized("send a session's token: Authorization: Bearer <token>")
        session = await reads.session(sha256(token.encode()).digest())
        if session is None:
            raise _unauthorized("the token belongs to no session, or to one that is over")
        connection.scope["user"] = session

    return check


def _unauthorized(detail: str) -> NotAuthorizedException:
    return NotAuthorizedException(detail, headers={"WWW-Authenticate": "Bearer"})


class Measure(ASGIMiddleware):
    """Counts requests and their times by route."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        started = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await next_app(scope, receive, watch)
        finally:
            route = scope.get("path_template") or "unmatched"
            self._metrics.http_request(str(scope.get("method")), route, status, time.perf_counter() - started)


def answer(request: AnyRequest, found: Found, *, body: bytes | None = None) -> Response[bytes]:
    """200 with what was found, 304 where the client has it already.

    Args:
        body: sent instead of the found value, of which it is a part.

    Raises:
        NotFoundException: nothing was found.
    """
    if found.value is None:
        raise NotFoundException("no such thing is known here")
    body = found.value if body is None else body
    # Weak: the same tag stands for the compressed and the plain form.
    etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "X-Cache": _X_CACHE.get(found.source, "bypass"),
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def pick(found: Found, names: Sequence[str] | None) -> bytes | None:
    """Some fields of a JSON object that was found; None for all of them."""
    if names is None or found.value is None:
        return None
    row = orjson.loads(found.value)
    return orjson.dumps({name: row[name] for name in names})


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    bare = etag.removeprefix("W/")
    return any(tag.strip().removeprefix("W/") in ("*", bare) for tag in header.split(","))


def problem(
    status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response[bytes]:
    """Problem details, RFC 9457. `about:blank`: the status says what kind of problem it is."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(orjson.dumps(body), media_type=PROBLEM, status_code=status, headers=headers)


def _http_problem(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    return problem(error.status_code, error.detail, headers=error.headers)


def _validation_problem(_: AnyRequest, error: ValidationException) -> Response[bytes]:
    return problem(400, "the request's parameters are not valid", errors=_errors(error.extra))


def _errors(extra: object) -> list[dict[str, str]]:
    """Name and fault of each parameter."""
    items = extra if isinstance(extra, list) else []
    return [{"parameter": str(i.get("key", "")), "message": str(i.get("message", ""))} for i in items]


def _parameter_problem(_: AnyRequest, error: ParameterError) -> Response[bytes]:
    errors = [{"parameter": error.name, "message": str(error)}]
    return problem(400, "the request's parameters are not valid", errors=errors)


def _unavailable_problem(_: AnyRequest, error: Exception) -> Response[bytes]:
    log.warning("a read failed", error=type(error).__name__)
    return problem(503, "the database does not answer; try again", headers={"Retry-After": "1"})


def _unexpected_problem(_: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("a request failed", exc_info=error)
    return problem(500, "something went wrong on our side")


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    HTTPException: _http_problem,
    ValidationException: _validation_problem,
    ParameterError: _parameter_problem,
    **dict.fromkeys(_UNAVAILABLE, _unavailable_problem),
    Exception: _unexpected_problem,
}
