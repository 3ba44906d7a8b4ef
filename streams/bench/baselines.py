"""What the service is compared with, measured on the same servers in the same run.

- plain: a FastStream handler, one event at a time (streams.bench.plain), doing the same work;
- the ceilings: COPY of the rows that the run has stored, see streams.bench.ceilings;
- bare: the fastest consumer that aiormq has, without any work.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from typing import Final

from schemas.errors import StreamsError
from streams.bench.ceilings import ceilings
from streams.bench.digest import cpu_per_event, watch
from streams.bench.drain import STALLED_SECONDS, Backlog, Stalled, fill, first_delivery
from streams.bench.finding import Finding
from streams.bench.options import Options
from streams.bench.place import Place
from streams.bench.service import Processes
from streams.bench.stored import Stored
from streams.topology import QUARANTINE

PLAIN_EVENTS: Final = 5_000
BARE_EVENTS: Final = 60_000
_POLL: Final = 0.1


async def plain(place: Place, options: Options) -> Finding:
    """Drain a backlog of single events with the plain handler; our updater applies its invalidations.

    Raises:
        StreamsError: it could not be measured.
    """
    options = replace(options, array=0, workers=1)
    await place.empty()
    backlog = await fill(place, options)
    await place.quiet()
    stored = Stored(place.database, backlog.story.name)
    async with Processes(place.urls.environment(), place.folder, options.export) as processes:
        processes.start("updater")
        await processes.ready("updater")
        processes.start("plain", arguments=["-m", "streams.bench.plain", options.export])
        await first_delivery(place, backlog, processes)
        roots = place.pids | processes.roots
        mine = place.database.get_server_pid()
        start = watch(roots, mine)
        await _until_stored(place, processes, stored, options.events)
        end = watch(roots, mine)
        await processes.stop("plain", "updater")
    commits = await stored.commits()
    seconds = commits[-1].at - start.begun
    checks = await stored.checks(backlog.story.told, backlog.since)
    checks["no event is in quarantine"] = await place.waiting(QUARANTINE) == 0
    cpu = cpu_per_event(start, end, options.events)
    figures = {"events_per_second": options.events / seconds}
    figures |= {f"cpu_us.{name}": value for name, value in cpu.items()}
    return Finding(figures, {f"plain: {what}": holds for what, holds in checks.items()})


async def _until_stored(place: Place, processes: Processes, stored: Stored, events: int) -> None:
    last, changed = 0, time.monotonic()
    queues = (*place.queues, *place.invalidations)
    while (count := await stored.count()) < events or await place.waiting(*queues):
        processes.group.check()
        if count != last:
            last, changed = count, time.monotonic()
        elif time.monotonic() > changed + STALLED_SECONDS:
            raise Stalled(f"{count} of {events} events after a minute of rest\n{processes.tails()}")
        await asyncio.sleep(_POLL)


async def bare(place: Place, options: Options) -> Finding:
    """How fast messages come in when nothing is done with them."""
    await place.empty()
    backlog: Backlog = await fill(place, replace(options, array=0))
    await place.quiet()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.bench.bare",
        place.urls.amqp,
        str(backlog.messages),
        *place.queues,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        raise Stalled("the bare consumer has not got all messages in a minute") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StreamsError("the bare consumer failed")
    return Finding({"events_per_second": float(out)})


async def all_of(place: Place, options: Options) -> dict[str, Finding]:
    """All baselines. Call it right after a run, whose rows the ceilings copy."""
    found = await only_ceilings(place, options)
    found["bare"] = await bare(place, replace(options, events=min(options.events, BARE_EVENTS)))
    found["plain"] = await plain(place, replace(options, events=min(options.events, PLAIN_EVENTS)))
    return found


async def only_ceilings(place: Place, options: Options) -> dict[str, Finding]:
    """Both ceilings; none if rows had been stored before the run, which are not to be told apart."""
    return {} if options.stored else await ceilings(place, options.events)
