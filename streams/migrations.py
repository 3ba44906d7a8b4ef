"""Plain-SQL migrations, run by yoyo: `NNNN.name.sql` files with `-- depends:` headers.

Each file is one transaction, its mark of being applied included. Where the role `streams_migrator`
exists and we may act as it, it owns what is made.
"""

from __future__ import annotations

import asyncio
import glob
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import structlog
from psycopg import pq
from yoyo import exceptions, internalmigrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import MigrationList, default_migration_table, read_migrations

from schemas.errors import ConfigurationError
from streams import tls
from streams.refusal import explain

log = structlog.get_logger(__name__)

_LOCK_SECONDS: Final = 120.0

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('agent-streams migrations', 0))"

# A migration waits for a lock for seconds, not for ever: whoever comes after it in the queue waits, too.
_SESSION = """
SET search_path = public; SET lock_timeout = '10s'; SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0
"""

_ACT_AS_OWNER = """
SELECT set_config('role', rolname, true) FROM pg_roles
WHERE rolname = 'streams_migrator' AND has_schema_privilege(oid, 'public', 'CREATE')
  AND pg_has_role(session_user, oid, CASE WHEN current_setting('server_version_num')::integer >= 160000
                                          THEN 'SET' ELSE 'MEMBER' END)
"""

# So that every process can see whether the schema is the one it was written for.
_SHARE_MARKS = f"""
DO $$ BEGIN
    IF to_regrole('streams_writer') IS NOT NULL AND to_regrole('streams_reader') IS NOT NULL THEN
        GRANT SELECT ON {default_migration_table} TO streams_writer, streams_reader;
    END IF;
END $$
"""

# yoyo keeps one registry of migrations for the whole process and resolves dependencies in it.
_reading = threading.Lock()


async def migrate(dsn: str, sources: Sequence[Path | str]) -> list[str]:
    """Apply what is pending, then make partitions ahead; returns the ids of what was applied.

    Safe to call from many processes at once: one works, the others wait and find nothing to do.

    Args:
        dsn: postgresql://, as asyncpg takes it. Its user should own the database or be a member of
            `streams_migrator`.
        sources: folders of migrations in the order they are read, or yoyo's `package:name:folder`.

    Raises:
        ConfigurationError: the server cannot be reached, a source is not there, or a migration fails
            (its transaction is rolled back, earlier ones stay).
    """
    return await asyncio.to_thread(_migrate, dsn, sources)


async def pending(dsn: str, sources: Sequence[Path | str]) -> list[str]:
    """The ids of migrations that `migrate` would apply. Changes nothing; any role may ask.

    Raises:
        ConfigurationError: as `migrate`.
    """
    return await asyncio.to_thread(_pending, dsn, sources)


def _migrate(dsn: str, sources: Sequence[Path | str]) -> list[str]:
    migrations = _read(sources)
    applied = []
    with _errors(dsn), _backend(dsn) as backend:
        _lock(backend)
        _prepare(backend)
        for migration in backend.to_apply(migrations):
            try:
                _apply(backend, migration)
            except psycopg.Error as error:
                raise ConfigurationError(
                    f"migration {migration.id} failed and was rolled back: {_line(error)}"
                ) from error
            log.info("migrated", migration=migration.id)
            applied.append(migration.id)
        backend.execute(_SHARE_MARKS)
        # Other sources may come without our own, whose functions make partitions.
        if backend.execute("SELECT to_regprocedure('create_partitions()')").fetchone()[0]:
            backend.execute("SELECT create_partitions()")
    return applied


def _pending(dsn: str, sources: Sequence[Path | str]) -> list[str]:
    migrations = _read(sources)
    with _errors(dsn), psycopg.connect(_conninfo(dsn), autocommit=True) as connection:
        table = f"public.{default_migration_table}"
        row = connection.execute("SELECT to_regclass(%s)", [table]).fetchone()
        if row is None or row[0] is None:
            return [migration.id for migration in migrations]
        marks = connection.execute(f"SELECT migration_id FROM {table}")  # noqa: S608
        done = {mark[0] for mark in marks}
    return [migration.id for migration in migrations if migration.id not in done]


def _read(sources: Sequence[Path | str]) -> MigrationList:
    """All migrations of all sources, read and resolved."""
    for source in sources:
        if not _is_package(source) and not any(Path(source).glob("*.sql")):
            raise ConfigurationError(f"there are no migrations (*.sql) in {str(source)!r}")
    patterns = [str(source) if _is_package(source) else glob.escape(str(source)) for source in sources]
    try:
        with _reading:
            migrations = read_migrations(*patterns)
            for migration in migrations:
                migration.load()
    except exceptions.MigrationConflict as error:
        raise ConfigurationError(f"two migrations are called {error}") from error
    except (exceptions.BadMigration, OSError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"migrations cannot be read: {error}") from error
    return migrations


def _is_package(source: Path | str) -> bool:
    return isinstance(source, str) and source.startswith("package:")


@contextmanager
def _backend(dsn: str) -> Iterator[PostgresqlPsycopgBackend]:
    # libpq reads the URL: yoyo's own parser knows neither several hosts nor sockets.
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, None, {"conninfo": _conninfo(dsn)})
    with PostgresqlPsycopgBackend(uri, default_migration_table) as backend:
        backend.connection.add_notice_handler(
            lambda notice: log.info("PostgreSQL says", notice=notice.message_primary)
        )
        backend.execute(_SESSION)
        yield backend


def _lock(backend: PostgresqlPsycopgBackend) -> None:
    """Wait until no other process migrates this database.

    An advisory lock goes with its connection; yoyo's own lock, a row, would outlive a killed process.
    Polled, because a session that waits inside a statement holds up CREATE INDEX CONCURRENTLY, which
    waits for all statements to end: a deadlock, if it is the other migration's.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while not backend.execute(_TRY_LOCK).fetchone()[0]:
        if time.monotonic() > deadline:
            raise ConfigurationError(f"another process has been migrating for {_LOCK_SECONDS:g} seconds")
        time.sleep(0.1)


def _prepare(backend: PostgresqlPsycopgBackend) -> None:
    """yoyo's own tables."""
    if internalmigrations.needs_upgrading(backend):
        backend.create_lock_table()
        backend.break_lock()  # we hold the real one
        backend.ensure_internal_schema_updated()


def _apply(backend: PostgresqlPsycopgBackend, migration: Any) -> None:
    """Apply and mark in one transaction; yoyo's own `apply_one` uses two, and a crash between them would
    leave a migration that can be neither applied nor skipped."""
    if migration.use_transactions:
        with backend.transaction():
            backend.execute(_ACT_AS_OWNER)
            migration.process_steps(backend, "apply")
            backend.execute("SET LOCAL ROLE NONE")
            _mark(backend, migration)
    else:
        migration.process_steps(backend, "apply")
        with backend.transaction():
            _mark(backend, migration)


def _mark(backend: PostgresqlPsycopgBackend, migration: Any) -> None:
    # Not with yoyo's log: it asks for the user's name, and a container's user may have none.
    backend.mark_one(migration, log=False)


def _conninfo(dsn: str) -> str:
    """An asyncpg URL as libpq takes it.

    asyncpg reads parameters that it does not know as server settings: libpq wants those in `options`. And
    libpq's own default would fall back to plaintext, its `require` would look at no certificate: here as in
    `streams.database` a URL either asks for TLS, and it is verified, or it does not.
    """
    parts = tls.check(dsn, tls.POSTGRES)
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    params = dict(parse_qsl(parts.query))
    settings = [f"-c {name}={_escape(params.pop(name))}" for name in list(params) if name not in known]
    if settings:
        params["options"] = " ".join([params.get("options", ""), *settings]).strip()
    if tls.POSTGRES.is_secure(parts):
        params["sslmode"] = "verify-full"
        # libpq has no notion of the system's authorities before version 16, and its own place for them after.
        params.setdefault("sslrootcert", ssl.get_default_verify_paths().cafile or "system")
    else:
        params["sslmode"] = "disable"
    # urlencode's `+` for a space is not what libpq decodes.
    return urlunsplit(parts._replace(query=urlencode(params).replace("+", "%20")))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


@contextmanager
def _errors(dsn: str) -> Iterator[None]:
    """Errors of the server as one sentence, without the password."""
    try:
        yield
    except psycopg.OperationalError as error:
        where = urlsplit(dsn).netloc.rpartition("@")[2] or "the local socket"
        raise ConfigurationError(
            f"PostgreSQL at {where} cannot be used: {explain(error) or _line(error)}"
        ) from error
    except psycopg.Error as error:
        raise ConfigurationError(f"PostgreSQL refused to migrate: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
