"""Migrations: from nothing to the expected schema, once, whoever else tries at the same time.

The expected schema is `schema.txt`; after a change of a migration write it anew with
`STREAMS_UPDATE_SNAPSHOT=1 pytest tests/integration/test_migrations.py` and look at the difference.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from schemas.errors import ConfigurationError
from streams.migrations import migrate, pending

ROOT = Path(__file__).parents[2]
OURS = ROOT / "schemas" / "sql"
SNAPSHOT = Path(__file__).with_name("schema.txt")

IDS = sorted(path.stem for path in OURS.glob("*.sql"))

_numbers = count(1)

# Everything but partitions named by the calendar, which differ from day to day, and what extensions brought.
SCHEMA = r"""
WITH brought AS (
    SELECT objid FROM pg_depend WHERE deptype = 'e'
), relations AS (
    SELECT c.* FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname !~ 'yoyo'
      AND c.relname !~ '_(\d{4}_\d\d|w\d+)(_|$)' AND c.oid NOT IN (SELECT objid FROM brought)
)
SELECT line FROM (
    SELECT format('table %s %s', relname, array_to_string(reloptions, ' ')) AS line
    FROM relations WHERE relkind IN ('r', 'p')
  UNION ALL
    SELECT format('table %s partition by %s', relname, pg_get_partkeydef(oid))
    FROM relations WHERE relkind = 'p'
  UNION ALL
    SELECT format('%s %s column %s %s%s%s', CASE relkind WHEN 'c' THEN 'type' ELSE 'table' END,
                  relname, attname, format_type(atttypid, atttypmod),
                  CASE WHEN attnotnull THEN ' not null' END,
                  ' default ' || pg_get_expr(d.adbin, d.adrelid))
    FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE relkind IN ('r', 'p', 'c')
  UNION ALL
    SELECT format('table %s constraint %s %s', r.relname, conname, pg_get_constraintdef(n.oid))
    FROM relations r JOIN pg_constraint n ON n.conrelid = r.oid
    WHERE n.contype <> 'n' -- from 18 on NOT NULL is one, too; the columns say it already
  UNION ALL
    SELECT format('index %s', regexp_replace(pg_get_indexdef(oid), '^CREATE ', ''))
    FROM relations WHERE relkind IN ('i', 'I')
  UNION ALL
    SELECT format('function %s returns %s%s', p.oid::regprocedure, pg_get_function_result(p.oid),
                  CASE WHEN prosecdef THEN ' as its owner' END)
    FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND oid NOT IN (SELECT objid FROM brought)
  UNION ALL
    SELECT format('extension %s', extname) FROM pg_extension WHERE extname <> 'plpgsql'
) AS lines ORDER BY line COLLATE "C"
"""


async def admin(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def at(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


@pytest.fixture
async def empty(stack: SimpleNamespace) -> AsyncIterator[str]:
    """The URL of a database with nothing in it."""
    name = f"streams_empty_{os.getpid()}_{next(_numbers)}"
    await admin(stack.database, f"CREATE DATABASE {name}")
    yield at(stack.database, path=f"/{name}")
    await admin(stack.database, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package's own migrations, which build on ours."""
    (tmp_path / "0001.parcels.sql").write_text(
        "-- depends: 0003.partitions\n"
        "CREATE TABLE parcels (id uuid, created_at timestamptz, note text DEFAULT '100 %; $$ :x',"
        " PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);\n"
        "INSERT INTO partitioned_tables (table_name, kind, ahead, retention)"
        " VALUES ('parcels', 'month', 2, 6);\n"
    )
    return tmp_path


async def test_from_nothing_to_the_expected_schema(empty: str) -> None:
    assert await pending(empty, [OURS]) == IDS
    assert await migrate(empty, [OURS]) == IDS
    assert await pending(empty, [OURS]) == []
    found = "\n".join(await fetch(empty, SCHEMA)) + "\n"
    if os.environ.get("STREAMS_UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text()


async def test_twice_is_as_good_as_once(database_url: str) -> None:
    marks = "SELECT applied_at_utc FROM _yoyo_migration ORDER BY 1"
    before = await fetch(database_url, marks)
    assert await migrate(database_url, [OURS]) == []
    assert await fetch(database_url, marks) == before


async def test_many_at_once(empty: str) -> None:
    """Two processes, and two threads in ours: each migration is applied by one of them."""
    script = (
        "import asyncio, json, sys; from streams.migrations import migrate;"
        "print(json.dumps(asyncio.run(migrate(sys.argv[1], [sys.argv[2]]))))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, empty, str(OURS), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    applied = [*await asyncio.gather(migrate(empty, [OURS]), migrate(empty, [OURS]))]
    for process in processes:
        output, _ = await process.communicate()
        assert process.returncode == 0
        last = output.decode().splitlines()[-1]
        applied.append([name for name in IDS if f'"{name}"' in last])
    assert sorted(name for names in applied for name in names) == IDS


async def test_another_package_brings_its_own(database_url: str, folder: Path) -> None:
    assert await pending(database_url, [OURS, folder]) == ["0001.parcels"]
    assert await migrate(database_url, [OURS, folder]) == ["0001.parcels"]
    ahead = await fetch(database_url, "SELECT ahead FROM partitions_ahead() WHERE table_name = 'parcels'")
    assert ahead == [2]
    note = "INSERT INTO parcels VALUES (gen_random_uuid(), now()) RETURNING note"
    assert await fetch(database_url, note) == ["100 %; $$ :x"]


async def test_a_failed_migration_leaves_nothing_behind(database_url: str, folder: Path) -> None:
    (folder / "0002.broken.sql").write_text(
        "-- depends: 0001.parcels\nCREATE TABLE half (a integer);\nSELECT * FROM nowhere;\n"
    )
    with pytest.raises(
        ConfigurationError, match=r"0002\.broken failed.*\"nowhere\" does not exist"
    ) as caught:
        await migrate(database_url, [OURS, folder])
    assert "\n" not in str(caught.value)
    assert await fetch(database_url, "SELECT to_regclass('half')") == [None]
    assert await pending(database_url, [OURS, folder]) == ["0002.broken"]
    (folder / "0002.broken.sql").write_text("-- depends: 0001.parcels\nCREATE TABLE half (a integer);\n")
    assert await migrate(database_url, [OURS, folder]) == ["0002.broken"]


async def test_an_index_can_be_built_concurrently(database_url: str, folder: Path) -> None:
    (folder / "0002.index.sql").write_text(
        "-- transactional: false\n-- depends: 0001.parcels\n"
        "CREATE INDEX CONCURRENTLY idx_users_name ON users (name);\n"
    )
    assert await migrate(database_url, [OURS, folder]) == ["0001.parcels", "0002.index"]


@pytest.mark.parametrize("setting", ["application_name=x%20y", "jit=off", "search_path=nobody,pg_temp"])
async def test_urls_may_carry_what_asyncpg_takes(database_url: str, setting: str) -> None:
    assert await migrate(f"{database_url}?{setting}", [OURS]) == []
    assert await pending(f"{database_url}?{setting}", [OURS]) == []


async def test_errors_are_one_sentence_without_secrets(database_url: str, tmp_path: Path) -> None:
    nowhere = "postgresql://user:s3cret@127.0.0.1:1/db?connect_timeout=2"
    missing = at(database_url, path="/no_such_database")
    for url, source in [
        (nowhere, OURS),
        (missing, OURS),
        (database_url, tmp_path),
        (database_url, "/no/where"),
    ]:
        for command in (migrate, pending):
            with pytest.raises(ConfigurationError) as caught:
                await command(url, [source])
            assert "\n" not in str(caught.value)
            assert "s3cret" not in str(caught.value)


async def test_broken_sources_are_refused(database_url: str, folder: Path) -> None:
    (folder / "0003.orphan.sql").write_text("-- depends: 0002.nowhere\nSELECT;\n")
    with pytest.raises(ConfigurationError, match="dependencies"):
        await pending(database_url, [OURS, folder])
    (folder / "0003.orphan.sql").unlink()
    (folder / "0001.engine.sql").write_text("SELECT;\n")
    with pytest.raises(ConfigurationError, match=r"two migrations are called 0001\.engine"):
        await pending(database_url, [OURS, folder])


async def test_a_user_without_rights_on_roles(stack: SimpleNamespace, empty: str) -> None:
    """Migrates all the same, and owns what it makes; here the roles are known but not granted to it."""
    user = f"streams_plain_{os.getpid()}"
    name = urlsplit(empty).path[1:]
    await admin(
        stack.database,
        f"CREATE ROLE {user} LOGIN PASSWORD 'plain'",
        f"ALTER DATABASE {name} OWNER TO {user}",
    )
    netloc = urlsplit(empty).netloc.rpartition("@")[2]
    try:
        plain = at(empty, netloc=f"{user}:plain@{netloc}")
        with capture_logs() as logs:
            assert await migrate(plain, [OURS]) == IDS
        notices = [entry["notice"] for entry in logs if "notice" in entry]
        assert f"{user} may not create the extension pg_stat_statements; going on without it" in notices
        assert await migrate(plain, [OURS]) == []
        owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'tasks'"
        assert await fetch(plain, owner) == [user]
        assert set(await fetch(plain, "SELECT ahead FROM partitions_ahead()")) == {2, 3}
    finally:
        await admin(
            empty, f"REASSIGN OWNED BY {user} TO CURRENT_USER", f"DROP OWNED BY {user}", f"DROP ROLE {user}"
        )
