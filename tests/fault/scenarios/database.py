"""PostgreSQL stops, loses answers, deadlocks, refuses to serialize, lacks a partition, is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial
from tests.fault.scenarios.disk import disk_full
from tests.fault.taps import CutAfterCommit

_RATE: Final = 900.0

_RECONNECT: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'streams-worker' AND datname = current_database()
"""


async def immediate_stop(stage: Stage) -> None:
    """The server dies without a checkpoint, in the middle of transactions, and recovers from its log."""
    async with trial(stage, "PostgreSQL stopped at once", workers=2) as here:
        stops, waits = 0, 0

        async def noticed(publishing: asyncio.Task[None]) -> bool:
            nonlocal waits
            paused = await here.troubled("paused")
            waits += paused
            # Once all is stored nothing is left to wait for.
            return paused or publishing.done()

        async with here.publishing(here.load.plan(stage.scaled(15_000, 3_000)), _RATE) as publishing:
            while stops < stage.scaled(5) or not publishing.done():
                await asyncio.wait({publishing}, timeout=2)
                await asyncio.to_thread(here.place.stack.kill, "postgres")
                await until(lambda: noticed(publishing), "a worker says that it waits", 30)
                await asyncio.to_thread(here.place.stack.start_service, "postgres")
                stops += 1
        if not waits:
            here.row.problems.append("no worker had to wait for PostgreSQL")
        here.row.faults = f"{stops} times, by SIGKILL to all its processes"


async def unknown_commit(stage: Stage) -> None:
    """The link is cut between a COMMIT and its answer: the batch is stored, and nobody knows."""
    tap = CutAfterCommit()
    async with trial(stage, "commit with unknown result", workers=2, through="postgres", tap=tap) as here:
        wanted = stage.scaled(60, 5)
        async with here.publishing(here.load.plan(stage.scaled(12_000, 2_000)), _RATE):
            while tap.cut < wanted:
                tap.armed = 1
                await until(lambda: tap.armed == 0, "a commit was cut")
                await asyncio.sleep(0.05)
            tap.armed = 0
        here.row.faults = f"{tap.cut} answers to COMMIT withheld, the connection reset"


async def deadlocks(stage: Stage) -> None:
    """Two hostile sessions lock the same rows in the opposite order: real 40P01, on both sides."""
    async with trial(stage, "deadlock storm", workers=2, STREAMS_BATCH_SIZE="200") as here:
        # A waiting session looks for a circle once, after this time: by then the hostile ones have closed it.
        await here.fetchval(f"ALTER DATABASE \"{here.corner.vhost}\" SET deadlock_timeout = '250ms'")
        await here.fetchval(_RECONNECT)
        messages = here.load.plan(stage.scaled(5_000, 2_500))
        async with here.publishing(messages) as publishing, _hostile(here, 2) as lost:
            await asyncio.wait({publishing})
            await here.settle()
        told = await here.metric("streams_retries_total", "transient")
        here.row.faults = f"{told} deadlocks broken at the service's cost, {len(lost)} at the others'"
        if not told:
            here.row.problems.append("no transaction of the service met a deadlock")


@asynccontextmanager
async def _hostile(here: Trial, sessions: int) -> AsyncIterator[list[str]]:
    """Runs the sessions; gives what they were told of deadlocks."""
    lost: list[str] = []
    tasks = [asyncio.create_task(_lock_backwards(here.corner.database, lost)) for _ in range(sessions)]
    try:
        yield lost
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _lock_backwards(database: str, lost: list[str]) -> None:
    """Lock the newest tasks one after another, from the greatest id down, for ever."""
    connection = await asyncpg.connect(database)
    try:
        # It looks for circles later, so that it is mostly the service that is told.
        await connection.execute("SET deadlock_timeout = '2s'")
        while True:
            try:
                async with connection.transaction():
                    for row in await connection.fetch("SELECT id FROM tasks ORDER BY id DESC LIMIT 120"):
                        await connection.execute("SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", row["id"])
            except asyncpg.DeadlockDetectedError as error:
                lost.append(str(error))
            await asyncio.sleep(0.05)
    finally:
        connection.terminate()


async def serialization(stage: Stage) -> None:
    """All of the service's transactions are SERIALIZABLE, on hot rows, with others: real 40001."""
    async with trial(stage, "serialization storm", workers=3, STREAMS_BATCH_SIZE="100") as here:
        name = here.corner.vhost
        connection = await asyncpg.connect(here.corner.database)
        try:
            await connection.execute(
                f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'"
            )
            await connection.execute(_RECONNECT)
            await here.publish(here.load.plan(stage.scaled(6_000, 1_500)), _RATE)
            await here.settle()
            await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
        finally:
            await connection.close()
        retried = await here.metric("streams_retries_total", "transient")
        here.row.faults = f"{retried} transactions rolled back by PostgreSQL and tried again"


async def missing_partition(stage: Stage) -> None:
    """The partitions of the current and the next month are dropped while events come in."""
    async with trial(stage, "partition missing", workers=2) as here:
        dropped: list[str] = []
        # Before the first event, since dropping a partition that holds rows would be losing them.
        connection = await asyncpg.connect(here.corner.database)
        try:
            for name in await connection.fetch(_CURRENT_AND_LATER):
                await connection.execute(f'DROP TABLE "{name["name"]}"')
                dropped.append(name["name"])
        finally:
            await connection.close()
        await here.publish(here.load.plan(stage.scaled(6_000, 1_000)), _RATE)
        await here.settle()
        made = await here.fetchval("SELECT count(*) FROM pg_class WHERE relname = ANY($1)", dropped)
        here.row.faults = f"{len(dropped)} dropped, {made} made again by the workers"
        if not dropped or not made:
            here.row.problems.append(f"dropped {len(dropped)}, made {made}")


_CURRENT_AND_LATER: Final = """
SELECT child.relname AS name
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
WHERE parent.relname IN ('tasks', 'votes', 'event_history')
  AND child.relname >= parent.relname || to_char(now(), '"_"YYYY"_"MM')
ORDER BY 1
"""


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "postgres-stop": immediate_stop,
    "unknown-commit": unknown_commit,
    "deadlocks": deadlocks,
    "serialization": serialization,
    "missing-partition": missing_partition,
    "disk-full": disk_full,
}
