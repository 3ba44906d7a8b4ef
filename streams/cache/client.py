"""The Redis client: bounded in time and connections, certificates always verified."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.errors import ConfigurationError

_SCHEMES: Final = ("redis", "rediss", "unix")
_WEAKENING: Final = {
    "ssl_cert_reqs": ("none", "optional", "cert_none", "cert_optional"),
    "ssl_check_hostname": ("false", "no", "0"),
}


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
    _check(url)
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        socket_keepalive=True,
        client_name=f"streams-{role}",
        # Pooled connections die when Redis restarts: one more try, on a new connection. A timeout is
        # not tried again, it has cost enough; every command of ours may run twice.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"REDIS_URL must start with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    options = parse_qs(parts.query)
    for name, values in _WEAKENING.items():
        if any(value.lower() in values for value in options.get(name, ())):
            raise ConfigurationError(f"REDIS_URL must not switch off the check of certificates: drop {name}")
