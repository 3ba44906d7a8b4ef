"""Liveness, readiness and metrics of a process, over HTTP.

Ready means: consuming, nothing paused, every dependency there. Live means: the event loop turns.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from granian.constants import Interfaces

from streams.http import embedded
from streams.telemetry import Metrics

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health:
    """What keeps a process from being ready, by name."""

    def __init__(self) -> None:
        self._troubles: dict[str, str] = {"start": "starting"}

    def trouble(self, name: str, what: str) -> None:
        """Not ready because of `name` until it is cleared."""
        self._troubles[name] = what[:300]

    def clear(self, name: str) -> None:
        self._troubles.pop(name, None)

    @property
    def troubles(self) -> dict[str, str]:
        return dict(self._troubles)

    @property
    def ready(self) -> bool:
        return not self._troubles


class HealthServer:
    """/livez, /readyz and /metrics on Granian, inside the process's own event loop.

    Args:
        refresh: awaited before metrics are rendered, to read gauges that have no event of their own.
    """

    def __init__(
        self, health: Health, metrics: Metrics, host: str, port: int, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._refresh = refresh
        self.host = host
        self.port = port or free_port(host)
        self._server = embedded(self._app, host, self.port, Interfaces.ASGINL)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve()

    def stop(self) -> None:
        self._server.stop()  # type: ignore[no-untyped-call]

    async def _app(self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        if scope["type"] != "http":
            return
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        status, content_type, body = await self._answer(scope["path"], accept)
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        match path:
            case "/livez":
                return 200, "application/json", b'{"status":"live"}'
            case "/readyz":
                troubles = self._health.troubles
                body = orjson.dumps({"status": "not ready" if troubles else "ready", "troubles": troubles})
                return 503 if troubles else 200, "application/json", body
            case "/metrics":
                await self._refresh()
                body, content_type = self._metrics.render(accept)
                return 200, content_type, body
            case _:
                pass
        return 404, "application/problem+json", b'{"title":"Not Found","status":404}'


def free_port(host: str) -> int:
    """A TCP port that is free on `host` now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
