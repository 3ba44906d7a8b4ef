"""The outermost layer of the read API: what holds for every request, known route or not.

HEAD is GET without its body; every request has a trace id, a time that it may take, and its measurement;
every answer has the headers that keep a browser from making something of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any, Final, Protocol

import structlog
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from handlers.problems import OutOfTime

_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_DEFAULTS: Final = (
    (b"vary", b"Accept-Encoding"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Metrics(Protocol):
    """What the API needs of `streams.telemetry.Metrics`."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None: ...

    def render(self, accept: str = "") -> tuple[bytes, str]: ...


class Shell:
    """An ASGI application around the API's."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method, status = scope["method"], 500
        is_head = method == "HEAD"
        if is_head:
            scope["method"] = "GET"
        state = scope.setdefault("state", {})
        state["trace_id"] = _trace_id(scope)

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _headers(message["headers"], state.get("rate_limit", ()))
            elif is_head:
                message["body"] = b""
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            scope["method"] = method
            route = scope.get("path_template") or "unmatched"
            self._metrics.http_request(method, route, status, time.perf_counter() - started)


class Deadline(ASGIMiddleware):
    """Breaks off what takes too long; where errors are turned into answers.

    Args:
        seconds: how long a request may take.

    Raises:
        OutOfTime: it took longer. A load that others may share goes on, and fills the cache.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                await next_app(scope, receive, send)
        except TimeoutError:
            if deadline.expired():
                raise OutOfTime from None
            raise


def _headers(given: Any, more: Any) -> list[tuple[bytes, bytes]]:
    headers = [*given, *more]
    names = {name.lower() for name, _ in headers}
    headers += [header for header in _DEFAULTS if header[0] not in names]
    return headers


def _trace_id(scope: Any) -> str:
    """That of the request's span, else the caller's, if it sent a valid `traceparent`; else a new one."""
    traced = structlog.contextvars.get_contextvars().get("trace_id")
    if traced:
        return str(traced)
    for name, value in scope["headers"]:
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)) and match[1] != b"0" * 32:
            return str(match[1], "ascii")
    return os.urandom(16).hex()
