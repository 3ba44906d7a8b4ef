"""Spans of HTTP requests, and of the statements that a request sends.

    GET /v1/tasks/{task_id}              SERVER   a child of the client's span, if it sends a traceparent
    └── SELECT tasks                     CLIENT   PostgreSQL

An ASGI application is wrapped; without tracing it stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import url_attributes as url
from opentelemetry.trace import SpanKind

from streams.telemetry.context import SAMPLED, new_span_id
from streams.telemetry.logs import log_context
from streams.telemetry.records import Record, Shape, Value
from streams.telemetry.semconv import STATUS_CODE, statement
from streams.telemetry.spans import Tracing
from streams.telemetry.steps import error_type

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

_UNWATCHED: Final = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_current: ContextVar[_Request | None] = ContextVar("request", default=None)


class _Request:
    """A request that is being answered, and the spans below it so far."""

    __slots__ = ("record", "spans")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.spans: list[Record] = []


def traced(app: App, tracing: Tracing) -> App:
    """The application, with a SERVER span for each request but probes and scrapes."""
    if not tracing.enabled:
        return app

    async def call(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNWATCHED:
            await app(scope, receive, send)
            return
        request = _Request(_begin(scope, tracing))
        status = 500

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = _current.set(request)
        try:
            with log_context(trace_id=request.record.trace, span_id=request.record.span):
                await app(scope, receive, watch)
        finally:
            _current.reset(token)
            _end(request, scope, status, tracing)

    return call


def on_query(record: Any) -> None:
    """asyncpg's query logger: a span below the request whose task sent the statement, if any.

    asyncpg calls it in the context of that task, one iteration of the loop later.
    """
    request = _current.get()
    if request is None or not request.record.flags & SAMPLED:
        return
    end, above = time.time_ns(), request.record
    shape = statement(record.query, record.conn_params.database, record.conn_addr)
    child = Record(
        shape, above.trace, new_span_id(), above.span, end - int(record.elapsed * 1e9), above.flags
    )
    child.end_ns = end
    if record.exception is not None:
        child.error = error_type(record.exception)
        if code := getattr(record.exception, "sqlstate", None):
            child.attributes = {STATUS_CODE: code}
    request.spans.append(child)


def current_trace_id() -> str | None:
    """The trace of the request that is being answered, if it is recorded."""
    request = _current.get()
    return request.record.trace if request is not None and request.record.flags & SAMPLED else None


def _begin(scope: Scope, tracing: Tracing) -> Record:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    attributes: dict[str, Value] = {
        http.HTTP_REQUEST_METHOD: method,
        url.URL_PATH: scope["path"],
        url.URL_SCHEME: scope.get("scheme", "http"),
    }
    parent, state = tracing.propagation.extract(headers)
    record = tracing.record(Shape(method, SpanKind.SERVER), parent, state, attributes)
    record.start_ns = time.time_ns()
    return record


def _end(request: _Request, scope: Scope, status: int, tracing: Tracing) -> None:
    record = request.record
    if not record.flags & SAMPLED:
        return
    record.end_ns = time.time_ns()
    attributes = {**record.attributes, http.HTTP_RESPONSE_STATUS_CODE: status}
    if template := scope.get("path_template"):
        record.shape = Shape(f"{record.shape.name} {template}", SpanKind.SERVER)
        attributes[http.HTTP_ROUTE] = template
    if status >= 500:
        record.error = str(status)
    record.attributes = attributes
    tracing.hand_over((*request.spans, record))
