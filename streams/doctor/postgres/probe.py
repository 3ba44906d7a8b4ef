"""One connection to PostgreSQL that can only read, and what every check wants to know of the server."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from streams import tls
from streams.database import tls_for
from streams.doctor.patient import NotThere
from streams.doctor.words import duration, size
from streams.hosts import Hosts
from streams.refusal import reason

Record = asyncpg.Record

_FACTS: Final = """
SELECT current_setting('server_version_num')::integer AS version, current_setting('server_version') AS shown,
       current_user AS role, current_database() AS database, r.rolsuper AS superuser,
       pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER') AS sees_all,
       pg_is_in_recovery() AS standby,
       extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS up,
       (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements') AS statements,
       to_regclass('public.partitioned_tables') IS NOT NULL AS ours
FROM pg_roles r WHERE r.rolname = current_user
"""

_SETTINGS: Final = "SELECT name, setting, unit, vartype, pending_restart, source FROM pg_settings"

_UNITS: Final = {"B": 1, "kB": 1024, "8kB": 8192, "MB": 1024**2, "16MB": 16 * 1024**2, "GB": 1024**3,
                 "TB": 1024**4, "ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}  # fmt: skip
_NUMBER: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter: as the server writes it, and in bytes or seconds where it has a unit."""

    raw: str
    unit: str | None
    kind: str
    pending_restart: bool
    source: str = ""
    """Where it was set: "configuration file", "database", "user", ..."""

    @property
    def number(self) -> float:
        """In bytes, seconds, or the parameter's own measure; -1 keeps its meaning."""
        value = float(self.raw)
        return value if value < 0 else value * _UNITS.get(self.unit or "", 1)

    @property
    def shown(self) -> str:
        return shown(float(self.raw), self.unit) if self.unit and self.kind != "enum" else self.raw


class Postgres:
    """Read-only by the server's own rule; every statement is bounded in time.

    Args:
        dsn: as asyncpg takes it.
        seconds: for connecting, for each statement and for each lock.
    """

    def __init__(self, dsn: str, *, seconds: float) -> None:
        self._dsn = dsn
        self._seconds = seconds
        self._connection: asyncpg.Connection[Record] | None = None
        self.facts: Mapping[str, Any] = {}
        self.settings: Mapping[str, Setting] = {}
        self.clock_ahead = 0.0
        """Seconds that the server's clock is ahead of ours, to within `clock_doubt`."""
        self.clock_doubt = 0.0
        self.before: Mapping[int, tuple[int, str]] = {}
        """Calls of each statement when the examination began, as `statements_now`."""

    async def connect(self) -> None:
        """Connect, and look who we are.

        Raises:
            NotThere: the server cannot be reached or refuses us.
        """
        milliseconds = str(int(self._seconds * 1000))
        try:
            self._connection = await Hosts(self._dsn)(
                timeout=self._seconds,
                command_timeout=self._seconds,
                ssl=tls_for(self._dsn),
                server_settings={
                    "application_name": "streams-doctor",
                    "default_transaction_read_only": "on",
                    "statement_timeout": milliseconds,
                    "lock_timeout": milliseconds,
                    "timezone": "UTC",
                },
            )
            self.facts = dict((await self.fetch(_FACTS))[0])
            self.settings = {
                row["name"]: Setting(
                    row["setting"], row["unit"], row["vartype"], row["pending_restart"], row["source"]
                )
                for row in await self.fetch(_SETTINGS)
            }
            asked = time.time()
            now: float = await self.value("SELECT extract(epoch FROM clock_timestamp())::float8")
            told = time.time()
            self.clock_ahead, self.clock_doubt = now - (asked + told) / 2, (told - asked) / 2
            self.before = await self.statements_now()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise NotThere(f"cannot be reached: {reason(error)}") from error

    async def close(self) -> None:
        if self._connection is not None:
            try:
                await self._connection.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._connection.terminate()

    async def fetch(self, statement: str, *arguments: object) -> list[Record]:
        assert self._connection is not None, "connect() comes first"
        return await self._connection.fetch(statement, *arguments)

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first column of the first row."""
        assert self._connection is not None, "connect() comes first"
        return await self._connection.fetchval(statement, *arguments)

    async def statements_now(self) -> dict[int, tuple[int, str]]:
        """Calls and text of each statement of this database so far, by its id; empty without the "
        "extension."""
        if not self.has_statements:
            return {}
        rows = await self.fetch(
            f"SELECT queryid, sum(calls)::bigint, min(query) FROM {self.statements_view} "  # noqa: S608
            "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND queryid IS NOT NULL GROUP BY queryid"
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    @property
    def statements_view(self) -> str:
        """The view of pg_stat_statements with its schema, quoted."""
        schema = str(self.facts["statements"]).replace('"', '""')
        return f'"{schema}".pg_stat_statements'

    @property
    def is_local(self) -> bool:
        return all(map(tls.is_loopback, tls.hosts(urlsplit(self._dsn))))

    @property
    def uses_tls(self) -> bool:
        return tls.POSTGRES.is_secure(urlsplit(self._dsn))

    @property
    def sees_all(self) -> bool:
        """Other roles' sessions and statements are shown to us in full."""
        return bool(self.facts["superuser"] or self.facts["sees_all"])

    @property
    def has_statements(self) -> bool:
        return self.facts["statements"] is not None and "pg_stat_statements.max" in self.settings

    @property
    def grant(self) -> str:
        """What lets our role see all."""
        return f"GRANT pg_monitor TO {identifier(str(self.facts['role']))};"


def identifier(name: str) -> str:
    """A name as SQL takes it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def parse_quantity(text: str) -> float | None:
    """A value of postgresql.conf in bytes, seconds or as it stands; None if it is no number."""
    match = _NUMBER.fullmatch(text.strip().strip("'"))
    if match is None or (match[2] and match[2] not in _UNITS):
        return None
    return float(match[1]) * _UNITS.get(match[2], 1)


def shown(value: float, unit: str | None) -> str:
    """A parameter for people: 131072 of 8kB is 1GB."""
    if value < 0 or unit is None:
        return f"{value:g}"
    total = value * _UNITS.get(unit, 1)
    if unit in ("ms", "s", "min", "h", "d"):
        return duration(total)
    return size(total)
