"""Open loops: writes and reads at given rates, each counted from when it was due.

An event's own time is when it was due (see `generator`); PostgreSQL knows when its transaction was committed
(`track_commit_timestamp`), and the exchange `cache-bus` tells when Redis has the invalidations of its batch.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from schemas.errors import StreamsError
from streams.bench import proc
from streams.bench.checked import checked, checks_of, figures_of
from streams.bench.digest import cpu_per_event, watch
from streams.bench.finding import Finding
from streams.bench.freshness import Freshness
from streams.bench.generator import Orders
from streams.bench.latency import Histogram
from streams.bench.options import Export
from streams.bench.place import Place
from streams.bench.reading import Reads
from streams.bench.readside import Readers, read
from streams.bench.service import Processes, total
from streams.bench.stored import Stored
from streams.bench.story import Told
from streams.topology import QUARANTINE

_SETTLED_SECONDS: Final = 30.0

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
    warm: bool = False
    newest_first: bool = False
    """Of readers: see there."""

    @property
    def readers(self) -> Readers:
        return Readers(
            self.reads, self.seconds, self.warm_up, self.seed, self.warm, self.newest_first, bool(self.writes)
        )

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
        await _up(processes, *workers, "updater")
        if load.preload:
            await store(place, processes, load.preload, load, workers)
        if load.reads or load.check:
            # Not before: it would read ahead what is stored now, and nothing would be cold.
            await place.cache.flushdb()
            await _up(processes, "api")
        return await _measure(place, load, processes, workers)


async def _up(processes: Processes, *names: str) -> None:
    for name in names:
        processes.start(name.partition("-")[0], name)
    await processes.ready(*names)


async def store(
    place: Place,
    processes: Processes,
    events: int,
    like: Load | None = None,
    workers: Sequence[str] = ("worker",),
) -> None:
    """Have so many events published and stored, as fast as it goes; all caches are told of them."""
    like = like or Load(1.0)
    await _generate(place, Load(1.0, float(events), seed=like.seed, payload=like.payload))
    await _settled(place, processes, list(workers))


async def _measure(place: Place, load: Load, processes: Processes, workers: list[str]) -> Finding:
    freshness, since = Freshness(), datetime.now(UTC) - timedelta(milliseconds=2)
    roots, mine = place.pids | processes.roots, place.database.get_server_pid()
    memory = proc.Memory.of(
        {name: pid for name, pid in roots.items() if name in (*workers, "updater", "api")},
        interval=max(0.25, load.seconds / 240),
    )
    start = watch(roots, mine)
    with memory.sampling():
        async with (
            freshness.listening(place.broker),
            checked(place, processes.bases.get("api"), load.check) as reports,
        ):
            writing = asyncio.create_task(_generate(place, load)) if load.writes else None
            reads, read_figures = Reads(), dict[str, float]()
            if load.reads:
                reads, read_figures = await read(place, processes, load.readers, freshness)
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
        figures |= read_figures | {
            f"cores busy: {name}": (end.cpu[name] - start.cpu[name]) / (end.begun - start.begun)
            for name in ("api", "postgres", "redis")
            if name in start.cpu
        }
        curves["read_ms"] = reads.latency.curve()
        checks["every read was answered"] = reads.failed == 0
    for report in reports:
        figures |= figures_of(report)
        checks |= checks_of(report)
    return Finding({name: round(value, 4) for name, value in figures.items()}, checks, curves)


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
