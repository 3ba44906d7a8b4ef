"""Connecting to PostgreSQL where a URL names several hosts, of which one is the primary now.

asyncpg tries the hosts of a URL in turn, within one time limit for all: a machine that is gone without a
word (its switch died, its process is frozen) takes the whole of it, and the next host is never asked. Here
each host has the limit to itself, and the one that answered last is asked first.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import asyncpg

_NEXT: Final = (
    OSError,  # nobody there, or no answer in time
    asyncpg.TargetServerAttributeNotMatched,  # a standby
    asyncpg.CannotConnectNowError,  # starting, stopping or recovering
    asyncpg.ConnectionDoesNotExistError,
)


class NoPrimaryError(ConnectionError):
    """Hosts answer and none is what the URL asks for: a failover is under way. To whoever waits for a server
    it is one that is down."""


class Hosts:
    """The hosts of a URL; an instance is a pool's `connect`.

    With several of them the primary is meant, unless the URL's `target_session_attrs` says otherwise. That is
    not `read-write`: a login that only reads by its own choice would find none.
    """

    def __init__(self, dsn: str) -> None:
        self._each = _each(dsn)

    async def __call__(self, dsn: str | None = None, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        """Connect to the first host that is what we need.

        Args:
            dsn: what the pool has been given; the hosts are known.
            options: as `asyncpg.connect`; `timeout` is for each host.

        Raises:
            NoPrimaryError: those that answer are not what we need.
            OSError, asyncpg.PostgresError: what the last host answered.
        """
        last: Exception = NoPrimaryError("DATABASE_URL names no host")
        for url in list(self._each):
            try:
                connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url, **options)
            except _NEXT as error:
                last = error
            else:
                if url != self._each[0]:
                    self._each = [url, *(other for other in self._each if other != url)]
                return connection
        if isinstance(last, asyncpg.TargetServerAttributeNotMatched):
            raise NoPrimaryError("no host of DATABASE_URL is the primary") from None
        raise last


def _each(dsn: str) -> list[str]:
    """A URL for each host of this one."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [dsn]
    query = parts.query
    if not any(name == "target_session_attrs" for name, _ in parse_qsl(query)):
        query = f"{query}{'&' if query else ''}target_session_attrs=primary"
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}", query=query)) for host in hosts.split(",")]
