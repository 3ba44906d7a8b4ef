"""The Redis client: bounded in time and connections, certificates always verified."""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from streams import tls


class _VerifiedConnection(SSLConnection):
    """Uses the context that it is given: redis-py's own would trust the system's authorities beside ours."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


def connect_redis(url: str, role: str, *, timeout: float = 1.0, max_connections: int = 64) -> Redis:
    """A client that connects when it is first used.

    Args:
        url: `redis://`, `rediss://` (TLS, verified) or `unix://`.
        role: shows in CLIENT LIST as `streams-<role>`.
        timeout: seconds for each of: a free connection, connecting, a reply.
        max_connections: bound of the pool; whoever finds it exhausted waits.

    Raises:
        ConfigurationError: another scheme, or a URL that switches the verification of certificates off.
    """
    context = tls.context_for(url, tls.REDIS)
    options: dict[str, Any] = {
        "max_connections": max_connections,
        "timeout": timeout,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "client_name": f"streams-{role}",
        # Pooled connections die when Redis restarts: one more try, on a new connection. A timeout is
        # not tried again, it has cost enough; every command of ours may run twice.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        **parse_url(url),
    }
    if context is not None:
        options |= {"connection_class": _VerifiedConnection, "context": context}
    return Redis.from_pool(BlockingConnectionPool(**options))
