"""The Redis client, of one server or a cluster: bounded in time and connections, certificates verified."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.errors import ConfigurationError
from streams import tls
from streams.cache.epoch import PlainConnection, UnixConnection, VerifiedConnection

RedisClient = Redis | RedisCluster
"""Both take commands and pipelines alike, if each command touches one slot."""

_CLUSTER: Final = "cluster"
_PORT: Final = 6379
_MORE_TRIES: Final = 2


def connect_redis(url: str, role: str, *, timeout: float = 1.0, max_connections: int = 64) -> RedisClient:
    """A client that connects when it is first used.

    Args:
        url: `redis://`, `rediss://` (TLS, verified) or `unix://`. For a Redis Cluster
            `redis://host:port,host:port?cluster=1`: nodes to ask for the others.
        role: shows in CLIENT LIST as `streams-<role>`.
        timeout: seconds for each of: a free connection, connecting, a reply.
        max_connections: bound of the pool (for each node of a cluster); whoever finds it exhausted waits.

    Raises:
        ConfigurationError: another scheme, or a URL that switches the verification of certificates off.
    """
    context = tls.context_for(url, tls.REDIS)
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "client_name": f"streams-{role}",
    }
    connection: dict[str, Any] = {"connection_class": PlainConnection}
    if parts.scheme == "unix":
        connection = {"connection_class": UnixConnection}
    if context is not None:
        connection = {"connection_class": VerifiedConnection, "context": context}
    query = dict(parse_qsl(parts.query))
    if query.pop(_CLUSTER, "0").lower() in ("1", "true", "yes"):
        return _cluster(parts, query, options | {"max_connections": max_connections}, connection)
    options |= {
        "max_connections": max_connections,
        "timeout": timeout,
        # Pooled connections die when Redis restarts: one more try, on a new connection. A timeout is
        # not tried again, it has cost enough; every command of ours may run twice.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        **parse_url(urlunsplit(parts._replace(query=urlencode(query)))),
        **connection,
    }
    return Redis.from_pool(BlockingConnectionPool(**options))


def _cluster(
    parts: SplitResult, query: dict[str, str], options: dict[str, Any], connection: dict[str, Any]
) -> RedisCluster:
    if parts.scheme == "unix" or parts.path not in ("", "/", "/0"):
        raise ConfigurationError("REDIS_URL: a cluster has neither a socket nor databases other than 0")
    nodes = [_address(address) for address in parts.netloc.rpartition("@")[2].split(",")]
    client = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        retry=Retry(NoBackoff(), _MORE_TRIES),
        require_full_coverage=False,
        reinitialize_steps=0,  # else some MOVEDs in a row close connections that others are using
        **options,
    )
    # It takes no connection class, but hands these options to whatever node it finds.
    ours = connection | {"masters_only": False}
    for node in client.nodes_manager.startup_nodes.values():
        node.connection_class = ours["connection_class"]
        node.connection_kwargs.update({k: v for k, v in ours.items() if k != "connection_class"})
    client.connection_kwargs.update(ours)
    return client


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    return host.strip("[]"), int(port or _PORT)
