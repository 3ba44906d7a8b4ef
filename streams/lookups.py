"""What an updater asks the primary database: few statements, bounded in time, never waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from schemas.errors import Unavailable
from streams.cache.circuit import Circuit
from streams.database import tls_for
from streams.settings import Settings, require

_UNREACHABLE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Lookups:
    """A small pool that connects when it is first used, and again whenever the server is back.

    Args:
        role: shows in `pg_stat_activity.application_name` as `streams-<role>`.
        size: connections at most.
        seconds: for one statement, connecting included; after a failure the next ones fail at once, for a
            second.
    """

    def __init__(self, settings: Settings, role: str, *, size: int, seconds: float = 2.0) -> None:
        self._dsn = require(settings.database_url, "DATABASE_URL")
        self._role = role
        self._size = size
        self._seconds = seconds
        self._circuit = Circuit()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Any]:
        """Rows of one statement.

        Raises:
            Unavailable: the server did not answer in time, or refused.
        """
        if not self._circuit.allows():
            raise Unavailable("PostgreSQL did not answer a moment ago")
        try:
            async with asyncio.timeout(self._seconds):
                rows = await (self._pool or await self._open()).fetch(query, *args)
        except _UNREACHABLE as error:
            self._circuit.failed()
            raise Unavailable(f"PostgreSQL does not answer: {type(error).__name__}") from error
        self._circuit.succeeded()
        return rows

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,  # so it connects to nobody yet
                    max_size=self._size,
                    timeout=self._seconds,
                    ssl=tls_for(self._dsn),
                    server_settings={
                        "application_name": f"streams-{self._role}",
                        "statement_timeout": str(int(self._seconds * 1000)),
                        "default_transaction_read_only": "on",
                        "timezone": "UTC",
                    },
                )
            return self._pool
