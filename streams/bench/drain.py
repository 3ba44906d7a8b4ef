"""Fills the queues, then lets worker and updater empty them, and measures that.

The clock starts when the broker hands out the first message (its count of waiting messages is asked for every
few milliseconds) and stops at the commit of the last batch, as PostgreSQL recorded it. CPU is counted from
the first delivery until every invalidation has been applied, too.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from schemas.errors import StreamsError
from streams.bench import digest, proc
from streams.bench.amqp import Producer
from streams.bench.options import Export, Options, Tale
from streams.bench.place import Place
from streams.bench.prefill import prefill
from streams.bench.results import Run
from streams.bench.service import Processes, Samples, total
from streams.bench.stored import Stored
from streams.bench.story import Creations, Message, Story, arrays, singles
from streams.topology import QUARANTINE

_POLL: Final = 0.2
_ASK: Final = 1.0  # a worker's metrics take it 5 ms to write down
_FIRST_POLL: Final = 0.003
STALLED_SECONDS: Final = 60.0


class Stalled(StreamsError):
    """Nothing has been stored for a minute."""


@dataclass(slots=True)
class Backlog:
    """What waits in the queues."""

    story: Story
    messages: int
    bytes: int
    seconds: float
    since: datetime


async def drain(place: Place, options: Options) -> Run:
    """One run on emptied servers.

    Raises:
        StreamsError: it could not be measured.
    """
    await place.empty()
    if options.stored:
        await prefill(place.database, options.stored)
    backlog = await fill(place, options)
    await place.quiet()
    stored = Stored(place.database, backlog.story.name)
    async with Processes(
        place.urls.environment(), place.folder, options.export, options.protocol, options.profile
    ) as processes:
        return await _measure(place, options, backlog, stored, processes)


async def fill(place: Place, options: Options) -> Backlog:
    """Publish the backlog as fast as the broker confirms it."""
    agents = max(10, min(200, options.events // 100))
    kind = Creations if options.story is Tale.CREATED else Story
    story = kind(secrets.token_hex(4), options.seed, options.payload, agents)
    since = datetime.now(UTC) - timedelta(seconds=1 + options.events / 20_000)
    sizes = [0, 0]

    def counted(messages: Iterator[Message]) -> Iterator[Message]:
        for message in messages:
            sizes[0] += 1
            sizes[1] += len(message.body)
            yield message

    def publish() -> None:
        rng = Random(options.seed)
        events = story.events(options.events)
        messages = arrays(events, options.array, rng) if options.array else singles(events, rng)
        with Producer(place.urls.amqp) as producer:
            producer.publish_all(counted(messages))

    begun = time.monotonic()
    await asyncio.to_thread(publish)
    return Backlog(story, sizes[0], sizes[1], time.monotonic() - begun, since)


async def _measure(
    place: Place, options: Options, backlog: Backlog, stored: Stored, processes: Processes
) -> Run:
    workers = ["worker"] if options.workers == 1 else [f"worker-{n + 1}" for n in range(options.workers)]
    processes.start("updater")
    await processes.ready("updater")
    rows, wal = await stored.rows(), await stored.wal()
    for name in workers:
        processes.start("worker", name)
    await first_delivery(place, backlog, processes)
    roots = place.pids | processes.roots
    mine = place.database.get_server_pid()
    start = digest.watch(roots, mine)
    memory = proc.Memory.of(
        {name: roots[name] for name in (*workers, "updater", "rabbitmq") if name in roots}
    )
    with memory.sampling():
        await processes.ready(*workers)
        fresh_at = await _until_fresh(place, options, processes, workers)
    end = digest.watch(roots, mine)
    wal = await stored.wal() - wal
    samples = {name: await processes.metrics(name) for name in (*workers, "updater")}
    spans = await _spans(processes, samples, workers)
    await processes.stop(*workers, "updater")
    written = {name: count - rows.get(name, 0) for name, count in (await stored.rows()).items()}
    commits = await stored.commits()
    letters = await place.waiting(QUARANTINE)
    seconds = commits[-1].at - start.begun if commits else 0.0
    checks = await stored.checks(backlog.story.told, backlog.since) | {
        "no event is in quarantine": letters == 0,
        "every invalidation was applied": await place.waiting(*place.invalidations) == 0,
    }
    if options.export is Export.OTLP and not options.array:
        checks["every event has a span at the receiver"] = spans["dropped"] > 0 or (
            spans["consumer"] >= options.events
        )
    return Run(
        events=options.events,
        messages=backlog.messages,
        message_bytes=backlog.bytes / backlog.messages,
        fill_seconds=backlog.seconds,
        seconds=seconds,
        fresh_seconds=fresh_at - start.begun,
        events_per_second=digest.rate(commits, start.begun, [processes.ready_at[name] for name in workers]),
        cpu_us=digest.cpu_per_event(start, end, options.events),
        machine=digest.shares(start.machine, end.machine),
        batches=digest.batches([samples[name] for name in workers]),
        memory={name: [round(size / 1e6, 1) for size in sizes] for name, sizes in memory.series.items()},
        memory_times=[round(at, 2) for at in memory.times],
        commits=digest.progress(commits, start.begun),
        wal_bytes=wal / options.events,
        rows={name: count for name, count in sorted(written.items()) if count},
        rows_per_second=sum(written.values()) / seconds if seconds else 0.0,
        invalidations=round(total(samples["updater"], "streams_events_total", outcome="stored")),
        spans=spans,
        letters=letters,
        checks=checks,
    )


async def first_delivery(place: Place, backlog: Backlog, processes: Processes) -> None:
    """Return as soon as the broker has handed out a message."""
    deadline = time.monotonic() + STALLED_SECONDS
    while await place.waiting(*place.queues) >= backlog.messages:
        processes.group.check()
        if time.monotonic() > deadline:
            raise Stalled(f"no worker has taken anything for a minute\n{processes.tails()}")
        await asyncio.sleep(_FIRST_POLL)


async def _until_fresh(place: Place, options: Options, processes: Processes, workers: list[str]) -> float:
    """Wait until all is stored and all caches are told; returns when that was seen (seconds since 1970)."""
    last, changed = -1.0, time.monotonic()
    while True:
        processes.group.check()
        waiting = await place.waiting(*place.queues)
        settled = 0.0
        if not waiting:
            metrics = [await processes.metrics(name) for name in workers]
            settled = sum(total(samples, "streams_events_total") for samples in metrics)
            if settled >= options.events and await _is_fresh(place, processes):
                return time.time()
        if settled - waiting != last:
            last, changed = settled - waiting, time.monotonic()
        elif time.monotonic() > changed + STALLED_SECONDS:
            raise Stalled(
                f"{settled:.0f} of {options.events} events after a minute of rest\n{processes.tails()}"
            )
        await asyncio.sleep(_POLL if waiting else _ASK)


async def _is_fresh(place: Place, processes: Processes) -> bool:
    if await place.waiting(*place.invalidations):
        return False
    return total(await processes.metrics("updater"), "streams_in_flight_events") == 0


async def _spans(processes: Processes, samples: dict[str, Samples], workers: list[str]) -> dict[str, int]:
    """Spans that the receiver has got once nothing waits to be exported any more, and those lost."""
    for name in (*workers, "updater"):
        while total(samples[name], "streams_spans_waiting"):
            await asyncio.sleep(_POLL)
            samples[name] = await processes.metrics(name)
    received = await processes.received()
    dropped = sum(total(found, "streams_spans_dropped_total") for found in samples.values())
    return {
        "received": received.get("spans", 0),
        "consumer": received.get("consumer", 0),
        "dropped": round(dropped),
    }
