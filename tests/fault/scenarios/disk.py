"""A disk that is full, and has room again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial

_RATE: Final = 900.0
_MEGABYTES: Final = 48
_LEFT: Final = 64 * 1024  # bytes that are free when it gets tight: less than the shortest run writes

# Where nothing can be mounted: the same SQLSTATE, from a trigger on the same table.
_REFUSE: Final = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON event_history FOR EACH ROW EXECUTE FUNCTION refuse()
"""
_ACCEPT: Final = "DROP TRIGGER refuse ON event_history; DROP FUNCTION refuse()"

_NEWEST: Final = "SELECT 'event_history' || to_char(now() AT TIME ZONE 'UTC', '_YYYY_MM')"


async def disk_full(stage: Stage) -> None:
    """The service waits, says that it is not ready, puts nothing into quarantine, and resumes by itself."""
    async with trial(stage, "disk full", workers=2) as here, _small_disk(here) as disk:
        events = stage.scaled(8_000, 1_500)
        await here.publish(here.load.plan(events // 4), _RATE)
        async with here.publishing(here.load.plan(events, bad=False), _RATE):
            await disk.fill()
            await until(lambda: here.troubled("53100"), "a worker reports what it waits for", 60)
            await asyncio.sleep(stage.scaled(6, 2))
            now = await here.rest.look()
            await disk.free()
        assert now is not None
        if now.letters > len(here.load.ledger.bad):
            here.row.problems.append(f"{now.letters} letters while the disk was full")
        await until(here.all_ready, "all are ready again", 60)
        await here.settle()
        here.row.faults = disk.how


class _Disk:
    """A tablespace that holds this month's history, and a ballast that takes what room it has."""

    how = f"the month's history on a tmpfs of {_MEGABYTES} MB, filled up; real 53100"

    def __init__(self, folder: str) -> None:
        self._ballast = os.path.join(folder, "ballast")

    async def fill(self) -> None:
        free = os.statvfs(os.path.dirname(self._ballast))
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        os.posix_fallocate(descriptor, 0, free.f_bavail * free.f_frsize - _LEFT)
        os.close(descriptor)

    async def free(self) -> None:
        os.unlink(self._ballast)


class _Pretended:
    """Without the right to mount: a trigger that raises what PostgreSQL raises."""

    how = "simulated by a trigger that raises 53100 (mounting is not allowed here)"

    def __init__(self, database: str) -> None:
        self._database = database

    async def fill(self) -> None:
        await _execute(self._database, _REFUSE)

    async def free(self) -> None:
        await _execute(self._database, _ACCEPT)


@asynccontextmanager
async def _small_disk(here: Trial) -> AsyncIterator[_Disk | _Pretended]:
    folder = here.place.stack.folder / "full"
    folder.mkdir(exist_ok=True)
    size = f"size={_MEGABYTES}m"
    mounted = await _run("mount", "-t", "tmpfs", "-o", f"{size},mode=777", "tmpfs", str(folder))
    if not mounted:
        yield _Pretended(here.corner.database)
        return
    try:
        room = folder / "room"
        room.mkdir()
        owner = here.place.stack.folder / "postgres"
        os.chown(room, owner.stat().st_uid, owner.stat().st_gid)
        room.chmod(0o700)
        table = await here.fetchval(_NEWEST)
        await _execute(here.corner.database, f"CREATE TABLESPACE small LOCATION '{room}'")
        await _execute(here.corner.database, f"ALTER TABLE {table} SET TABLESPACE small")
        yield _Disk(str(folder))
        await _execute(here.corner.database, f"ALTER TABLE {table} SET TABLESPACE pg_default")
        await _execute(here.corner.database, "DROP TABLESPACE small")
    finally:
        await _run("umount", "-l", str(folder))


async def _execute(database: str, statements: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _run(*command: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await process.wait() == 0
