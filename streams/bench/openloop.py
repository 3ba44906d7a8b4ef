"""Open loops: writes and reads at given rates, each counted from when it was due.

An event's own time is when it was due (see `generator`); PostgreSQL knows when its transaction was committed
(`track_commit_timestamp`), and the exchange `cache-bus` tells when Redis has the invalidations of its batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import orjson

from schemas.errors import StreamsError
from streams.bench import proc
from streams.bench.digest import cpu_per_event, watch
from streams.bench.finding import Finding
from streams.bench.freshness import Freshness
from streams.bench.generator import Orders
from streams.bench.latency import Histogram
from streams.bench.options import Export
from streams.bench.place import Place
from streams.bench.reading import Population, Reader, Reads
from streams.bench.service import Processes, total
from streams.bench.stored import Stored
from streams.bench.story import Told
from streams.checker.judge import Outcome
from streams.checker.tally import Report
from streams.checker.watch import Options, checking
from streams.topology import QUARANTINE

_SETTLED_SECONDS: Final = 30.0
_REFRESH_SECONDS: Final = 1.0

_MOST_PATHS: Final = 5_000
_SHARES: Final = {"tasks": 0.7, "agents": 0.2, "rounds": 0.1}
_STORED: Final = "SELECT id FROM {table} ORDER BY hashtext(id::text), id LIMIT $1"
_NEW_TASKS: Final = "SELECT id FROM tasks WHERE created_at >= $1 AND created_at < $2"

# What was due, when it was committed, and by which batch.
_LATENCIES: Final = """
SELECT batch_id, extract(epoch FROM time)::float8 AS due,
    extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS committed
FROM event_history WHERE source LIKE 'urn:bench:' || $1 || ':%' AND time >= $2
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Rates per second, and for how long; `preload` events are stored beforehand, for reads to find."""

    seconds: float
    writes: float = 0.0
    reads: float = 0.0
    warm_up: float = 2.0
    preload: int = 0
    payload: int = 200
    workers: int = 1
    export: Export = Export.OTLP
    seed: int = 1
    check: float = 0.0
    """Invalidations per second that the checker of the caches samples."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def run(place: Place, load: Load) -> Finding:
    """One run on emptied servers.

    Raises:
        StreamsError: it could not be measured.
    """
    await place.empty()
    workers = ["worker"] if load.workers == 1 else [f"worker-{n + 1}" for n in range(load.workers)]
    async with Processes(place.urls.environment(), place.folder, load.export) as processes:
        roles = [*workers, "updater", *(["api"] if load.reads or load.check else [])]
        for name in roles:
            processes.start(name.partition("-")[0], name)
        await processes.ready(*roles)
        if load.preload:
            await _generate(place, Load(1.0, float(load.preload), seed=load.seed, payload=load.payload))
            await _settled(place, processes, workers)
        return await _measure(place, load, processes, workers)


async def _measure(place: Place, load: Load, processes: Processes, workers: list[str]) -> Finding:
    freshness, since = Freshness(), datetime.now(UTC) - timedelta(milliseconds=2)
    roots, mine = place.pids | processes.roots, place.database.get_server_pid()
    memory = proc.Memory.of(
        {name: pid for name, pid in roots.items() if name in (*workers, "updater", "api")},
        interval=max(0.25, load.seconds / 240),
    )
    start = watch(roots, mine)
    with memory.sampling():
        async with freshness.listening(place.broker), _checked(place, load, processes) as checked:
            writing = asyncio.create_task(_generate(place, load)) if load.writes else None
            reads = await _read(place, load, processes) if load.reads else Reads()
            written = await writing if writing else None
            await _settled(place, processes, workers)
    end = watch(roots, mine)
    figures: dict[str, float] = {}
    curves = {
        f"memory_mb.{name}": [
            [round(at, 2), round(size / 1e6, 1)] for at, size in zip(memory.times, sizes, strict=True)
        ]
        for name, sizes in memory.series.items()
    }
    figures |= {f"memory_mb.{name}": max(sizes) / 1e6 for name, sizes in memory.series.items() if sizes}
    checks: dict[str, bool] = {}
    if written is not None:
        found = await _written(place, load, written, freshness, since)
        figures, curves, checks = figures | found.figures, curves | found.curves, found.checks
        cpu = cpu_per_event(start, end, round(load.writes * load.seconds))
        figures |= {f"cpu_us.{name}": value for name, value in cpu.items()} if not load.reads else {}
    if load.reads:
        figures |= _read_figures(reads)
        curves["read_ms"] = reads.latency.curve()
        checks["every read was answered"] = reads.failed == 0
    if checked:
        figures |= _consistency_figures(checked[0])
        checks |= {
            "nothing was stale a second after it was announced": checked[0].ok(1.0),
            "the checker could judge": checked[0].total(1.0).judged > 0,
        }
    return Finding({name: round(value, 4) for name, value in figures.items()}, checks, curves)


@asynccontextmanager
async def _checked(place: Place, load: Load, processes: Processes) -> AsyncIterator[list[Report]]:
    """Have the caches checked beside the load; the report is there afterwards."""
    found: list[Report] = []
    if not load.check:
        yield found
        return
    options = Options(rate=load.check)
    urls, api = place.urls, processes.bases["api"]
    async with checking(
        urls.amqp, urls.database, [api], options, patience=max(options.delays) + 1
    ) as checker:
        yield found
    found.append(checker.report())


def _consistency_figures(report: Report) -> dict[str, float]:
    figures: dict[str, float] = {}
    for delay in report.delays:
        counts = report.total(delay)
        if counts.share is not None:
            figures[f"consistent after {delay:g} s"] = counts.share
        figures |= {f"{outcome} after {delay:g} s": float(counts.outcomes[outcome]) for outcome in Outcome}
    return figures | {
        "invalidations.heard": float(report.heard.total()),
        "invalidations.sampled": float(report.sampled.total()),
        "back in time": float(report.backwards),
    }


def _read_figures(reads: Reads) -> dict[str, float]:
    sources = {f"reads.{source}": float(count) for source, count in sorted(reads.sources.items())}
    return reads.latency.milliseconds("read_ms") | sources | {"hit_ratio": reads.hit_ratio}


async def _written(
    place: Place, load: Load, written: _Written, freshness: Freshness, since: datetime
) -> Finding:
    stored = Stored(place.database, written.name)
    committed, fresh, untold = Histogram(), Histogram(), 0
    from_ = datetime.fromtimestamp(written.begun + min(load.warm_up, load.seconds / 2), UTC)
    async with place.database.transaction():
        async for row in place.database.cursor(_LATENCIES, written.name, from_, prefetch=5000):
            committed.add(row["committed"] - row["due"])
            applied = freshness.applied.get(row["batch_id"])
            if applied is None:
                untold += 1  # nothing that a cache holds was changed
            else:
                fresh.add(applied - row["due"])
    told = written.told
    checks = await stored.checks(told, since) | {
        "no event is in quarantine": await place.waiting(QUARANTINE) == 0,
        "caches were told of nearly every event": untold < 0.01 * max(1, len(committed)),
    }
    figures = {
        "events_per_second": told.events / load.seconds,
        **committed.milliseconds("committed_ms"),
        **fresh.milliseconds("fresh_ms"),
        "generator_ms.p99": written.late["late.p99"],
        "generator_ms.max": written.late["late.max"],
    }
    return Finding(figures, checks, {"committed_ms": committed.curve(), "fresh_ms": fresh.curve()})


@dataclass(frozen=True, slots=True)
class _Written:
    name: str
    begun: float
    told: Told
    late: dict[str, float]


async def _generate(place: Place, load: Load) -> _Written:
    name = secrets.token_hex(4)
    orders = Orders(place.urls.amqp, name, load.writes, load.seconds, load.seed, load.payload)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.bench.generator",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate(orjson.dumps(asdict(orders)) + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StreamsError("the generator failed")
    first, last = (orjson.loads(line) for line in out.splitlines())
    return _Written(name, first["begun"], Told(**last["told"]), last["late_ms"])


async def _settled(place: Place, processes: Processes, workers: list[str]) -> None:
    """Wait until nothing is under way any more."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    queues = (*place.queues, *place.invalidations)
    while True:
        processes.group.check()
        busy = await place.waiting(*queues)
        for name in (*workers, "updater"):
            busy += round(total(await processes.metrics(name), "streams_in_flight_events"))
        busy += await place.database.fetchval("SELECT count(*) FROM outbox")
        if not busy:
            return
        if time.monotonic() > deadline:
            raise StreamsError(f"{busy} are still under way\n{processes.tails()}")
        await asyncio.sleep(0.1)


async def _read(place: Place, load: Load, processes: Processes) -> Reads:
    population = Population(Random(load.seed), {})
    reader = Reader(processes.bases["api"])
    async with _kept_up(place, population, load):
        try:
            if not load.writes:
                await reader.warm(population.paths)  # cached reads are what is asked for
            return await reader.run(population.path, load.reads, load.seconds, load.warm_up)
        finally:
            await reader.close()


@asynccontextmanager
async def _kept_up(place: Place, population: Population, load: Load) -> AsyncIterator[None]:
    """The population is what is stored; under writes, new tasks join it every second."""
    await _look_up(place, population)
    task = asyncio.create_task(_keep_up(place, population)) if load.writes else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _keep_up(place: Place, population: Population) -> None:
    """Let in new tasks, at random places: what is read most has nothing to do with its age."""
    since = datetime.now(UTC)
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        upto = datetime.now(UTC)
        rows = await place.database.fetch(_NEW_TASKS, since, upto)
        population.admit("tasks", [f"/v1/tasks/{row['id']}" for row in rows], _MOST_PATHS)
        since = upto


async def _look_up(place: Place, population: Population) -> None:
    for kind, share in _SHARES.items():
        rows = await place.database.fetch(_STORED.format(table=kind), _MOST_PATHS)
        population.kinds[kind] = (share, [f"/v1/{kind}/{row['id']}" for row in rows])
