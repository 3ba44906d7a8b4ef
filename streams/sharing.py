"""Several processes of the read API on one port: how they are started, and what none answers for all of them.

The kernel spreads connections over the processes that listen on a port (SO_REUSEPORT). What is of one process
only, its metrics, is asked for on a port of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from schemas.errors import ConfigurationError
from streams.health import free_port
from streams.lifecycle import stop_on_signals
from streams.processes import ProcessGroup
from streams.settings import Settings

log = structlog.get_logger(__name__)

_ELSEWHERE: Final = (
    b'{"title":"Not Found","status":404,"detail":"Each process has metrics on a port of its own: '
    b'see STREAMS_API_METRICS_PORT."}'
)


async def share(settings: Settings) -> int:
    """Run the workers until a signal, or until one of them ends; returns the exit status.

    Raises:
        ConfigurationError: their ports are no ports, or the shared one is among them.
    """
    ports = _own_ports(settings)
    stop = stop_on_signals()
    shared = {"STREAMS_HTTP_PORT": str(settings.http_port or free_port(settings.http_host))}
    async with ProcessGroup(stop_seconds=settings.shutdown_seconds + 10) as group:
        for number, port in enumerate(ports):
            own = {"STREAMS_API_WORKERS": "1", "STREAMS_API_METRICS_PORT": str(port)}
            command = [sys.executable, "-m", "streams", "api"]
            group.start(f"api {number}", command, env={**os.environ, **shared, **own})
        if (child := await group.wait(stop)) is None:
            return 0
        log.error("a worker ended", worker=child.name, status=child.process.returncode)
        return 1


def _own_ports(settings: Settings) -> list[int]:
    first, count = settings.api_metrics_port, settings.api_workers
    if not first:
        return [free_port(settings.http_host) for _ in range(count)]
    ports = list(range(first, first + count))
    if ports[-1] > 65_535 or settings.http_port in ports:
        raise ConfigurationError(
            f"STREAMS_API_METRICS_PORT={first}: {count} processes would listen on {ports[0]} to {ports[-1]}, "
            f"beside STREAMS_HTTP_PORT={settings.http_port}"
        )
    return ports


class Shared:
    """An application on a port that others may share: it has no metrics there."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/metrics":
            await self._app(scope, receive, send)
            return
        length = str(len(_ELSEWHERE)).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": _ELSEWHERE})
