"""The PostgreSQL pool and the transaction that a batch runs in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from schemas.errors import ConfigurationError
from streams import tls
from streams.hosts import Hosts
from streams.refusal import explain
from streams.settings import Settings, require
from streams.telemetry import Metrics, requests

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


class Database:
    """A pool with the profile's sizes and time limits.

    Args:
        role: shows in `pg_stat_activity.application_name` as `streams-<role>`.
        at_least: connections that the process needs whatever the profile says.
        metrics: told of every statement, and of the pool.
    """

    def __init__(
        self, settings: Settings, role: str, *, at_least: int = 1, metrics: Metrics | None = None
    ) -> None:
        self._dsn = require(settings.database_url, "DATABASE_URL")
        self._limits = settings.pool
        self._role = role
        self._max_size = max(self._limits.max_size, at_least)
        self._pool: Pool | None = None
        self._statements = (metrics or Metrics()).statements
        if metrics is not None:
            metrics.db_pool_max.set(self._max_size)
            metrics.db_pool_size.set_function(lambda: self._pool.get_size() if self._pool else 0)
            metrics.db_pool_idle.set_function(lambda: self._pool.get_idle_size() if self._pool else 0)
            metrics.db_pool_waiting.set_function(lambda: _waiting(self._pool))

    @property
    def pool(self) -> Pool:
        assert self._pool is not None, "connect() comes first"
        return self._pool

    async def connect(self) -> None:
        """Open the pool.

        Raises:
            OSError, asyncpg.PostgresError: the server cannot be reached or refuses us.
        """
        limits = self._limits
        self._pool = await asyncpg.create_pool(
            self._dsn,
            connect=Hosts(self._dsn),
            min_size=min(limits.min_size, self._max_size),
            max_size=self._max_size,
            max_inactive_connection_lifetime=limits.idle,
            timeout=limits.connect_timeout,
            command_timeout=limits.query_timeout,
            ssl=tls_for(self._dsn),
            connection_class=Watched,
            init=self._watch,
            reset=_leave,
            server_settings={
                "application_name": f"streams-{self._role}",
                "statement_timeout": str(int(limits.statement_timeout * 1000)),
                "idle_in_transaction_session_timeout": "600000",
                "timezone": "UTC",
            },
        )

    async def close(self, timeout: float = 5.0) -> None:
        """Close the pool, by force after `timeout` seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def transaction(self, on_query: Callable[[Any], None] | None = None) -> AsyncIterator[Connection]:
        """One READ COMMITTED transaction; commits on leaving, rolls back on an exception.

        Args:
            on_query: called with asyncpg's LoggedQuery after each statement.
        """
        async with self.pool.acquire(timeout=self._limits.query_timeout) as connection:
            if on_query is None:
                async with connection.transaction():
                    yield connection
            else:
                with connection.query_logger(on_query):
                    async with connection.transaction():
                        yield connection

    async def _watch(self, connection: Any) -> None:
        # They stay when the pool hands the connection on.
        connection.add_query_logger(self._statements.on_query)
        connection.add_query_logger(requests.on_query)

    async def ping(self) -> None:
        """One round trip; raises what `connect` raises."""
        await self.pool.fetchval("SELECT 1", timeout=self._limits.connect_timeout)


class Watched(asyncpg.Connection):
    """Tells query loggers of COPY, too, which asyncpg itself does not."""

    async def copy_records_to_table(self, table_name: str, **options: Any) -> str:
        with self._time_and_log(f"COPY {table_name}", (), None):  # type: ignore[attr-defined]
            return await super().copy_records_to_table(table_name, **options)


async def _leave(connection: Any) -> None:
    """Nothing is to be reset when a connection goes back to the pool: nothing here sets, listens or holds
    advisory locks beyond its transaction, and asyncpg has rolled back one that is open. Its own reset would
    cost every batch a round trip."""


def _waiting(pool: Pool | None) -> int:
    """Tasks that wait for a connection. asyncpg has no public word for it: its queue's getters are those."""
    return len(getattr(getattr(pool, "_queue", None), "_getters", ()))


async def connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """One connection outside of any pool, for a command.

    Raises:
        ConfigurationError: the server cannot be reached or refuses us; one line.
    """
    try:
        return await Hosts(dsn)(timeout=10, ssl=tls_for(dsn), server_settings={"timezone": "UTC"})
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(f"cannot connect to PostgreSQL: {explain(error) or error}") from error


def tls_for(dsn: str) -> ssl.SSLContext | bool:
    """What a URL's `sslmode` asks for: False without one, since plaintext is then a decision and no fallback.

    Every mode but `disable` verifies certificate and host name; asyncpg's own `require` would look at
    neither, and its `prefer` would send the password in plaintext to whoever offers nothing better.

    Raises:
        ConfigurationError: as `streams.tls.check` and `streams.tls.context`.
    """
    return tls.context_for(dsn, tls.POSTGRES) or False
