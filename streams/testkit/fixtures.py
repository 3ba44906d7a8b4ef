"""pytest fixtures: `pytest_plugins = ["streams.testkit.fixtures"]` in the topmost conftest.py.

    streams_server      a PostgreSQL where databases may be made: STREAMS_TEST_DATABASE_URL, or a private one
    streams_migrations  folders of migrations: our own, and those that STREAMS_MIGRATIONS names
    streams_database    the URL of a fresh, migrated database
    streams_kit         makes a Kit on it: `async with streams_kit(stream) as kit`

Override the first two in a conftest of yours. All are ordinary functions: tests may run under pytest-asyncio,
anyio or `asyncio.run`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from schemas.contract import Stream
from streams.testkit.kit import Kit

KitFactory = Callable[..., AbstractAsyncContextManager[Kit]]

_numbers = count(1)


@pytest.fixture(scope="session")
def streams_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, by a user who may create databases."""
    given = os.environ.get("STREAMS_TEST_DATABASE_URL")
    if given:
        yield given
        return
    from streams.stack import LocalStack

    with LocalStack("testkit", unique=True) as urls:
        yield urls.database


@pytest.fixture(scope="session")
def streams_migrations() -> Sequence[Path | str]:
    """Folders of migrations in the order they are applied."""
    from streams.settings import Settings

    return Settings.load().migration_sources


class Templates:
    """Migrated databases that nobody uses, one for each list of folders; others are copies of them."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._made: dict[tuple[str, ...], str] = {}

    def of(self, migrations: Sequence[Path | str]) -> str:
        from streams.migrations import migrate

        key = tuple(map(str, migrations))
        if key not in self._made:
            name = self._made[key] = f"streams_kit_template_{os.getpid()}_{next(_numbers)}"
            _admin(self._server, "CREATE DATABASE {}", name)
            with ThreadPoolExecutor(1) as thread:  # the test's own loop may be running here
                url = _with_path(self._server, name)
                thread.submit(lambda: asyncio.run(migrate(url, migrations))).result()
        return self._made[key]

    def drop(self) -> None:
        for name in self._made.values():
            _admin(self._server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(scope="session")
def _streams_templates(streams_server: str) -> Iterator[Templates]:
    templates = Templates(streams_server)
    yield templates
    templates.drop()


@pytest.fixture
def streams_database(
    streams_server: str, streams_migrations: Sequence[Path | str], _streams_templates: Templates
) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"streams_kit_{os.getpid()}_{next(_numbers)}"
    _admin(streams_server, "CREATE DATABASE {} TEMPLATE {}", name, _streams_templates.of(streams_migrations))
    yield _with_path(streams_server, name)
    _admin(streams_server, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def streams_kit(streams_database: str) -> KitFactory:
    """Makes a kit: `async with streams_kit(stream) as kit`."""

    def make(*streams: Stream) -> AbstractAsyncContextManager[Kit]:
        return Kit.open(streams_database, *streams)

    return make


def _admin(server: str, statement: str, *names: str) -> None:
    with psycopg.connect(_with_path(server, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
