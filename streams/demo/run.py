"""One run of the demonstration, from an empty stack to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from rich.console import Console

from schemas.errors import ConfigurationError
from streams.checker.watch import Checker, checking
from streams.checker.watch import Options as Sampling
from streams.database import connect
from streams.demo import letters, report
from streams.demo.faults import plan_faults
from streams.demo.ledger import Ledger
from streams.demo.observe import Observer
from streams.demo.progress import Progress, Snapshot
from streams.demo.publish import Publisher, PublishFailed, open_channel
from streams.demo.readers import Known, Reads, read_along
from streams.demo.report import Latency, Report
from streams.demo.rest import NotAtRest, Rest
from streams.demo.service import Service
from streams.demo.simulator import AGENTS, ORCHESTRATOR, simulate
from streams.demo.stored import Stored
from streams.demo.traffic import Message, disturb, pack
from streams.demo.verify import Verdict, verify
from streams.processes import ProcessEnded
from streams.refusal import explain

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

REFRESH_SECONDS = 0.25
COUNT_SECONDS = 1.0
CHECKS = 10.0  # invalidations sampled per second
CHECK_PATIENCE = 1.5  # checks that would be due later are broken off


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for. `rate`: events per second; `reads`: GETs per second; `rest`: seconds until
    everything must have come to rest after the last event was sent."""

    events: int = 20_000
    seed: int = 1
    rate: float = 500.0
    reads: float = 50.0
    rest: float = 40.0


@dataclass(frozen=True, slots=True)
class Place:
    """The servers to use and the folder for ledger and logs."""

    amqp: str
    database: str
    redis: str
    folder: Path
    queues: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        return {"AMQP_URL": self.amqp, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


@dataclass(slots=True)
class Run:
    """The parts of one run while it lasts."""

    options: Options
    place: Place
    console: Console
    ledger: Ledger = field(init=False)
    observer: Observer = field(default_factory=Observer)
    known: Known = field(default_factory=Known)
    reads: Reads = field(default_factory=Reads)
    begun: float = field(default_factory=time.monotonic)
    checker: Checker | None = None

    def __post_init__(self) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        self.ledger = Ledger(name, [f"urn:demo:{name}:{who}" for who in (*AGENTS, ORCHESTRATOR)])

    async def perform(self) -> Report:
        """Start the service, publish, wait, verify.

        Raises:
            StreamsError: it could not be set up.
        """
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(Progress(self.console, Snapshot()))
            progress.phase("starting worker, updater and read API")
            service = await stack.enter_async_context(Service(self.place.environment, self.place.folder))
            database = await stack.enter_async_context(connected(self.place.database))
            broker = await stack.enter_async_context(await brokered(self.place.amqp))
            await self.observer.listen(await broker.channel())
            rest = Rest(
                database, broker, self.observer, self.ledger, self.place.queues, await letters.count(broker)
            )
            self.ledger.open(self.place.folder / "ledger.ndjson")
            stack.callback(self.ledger.close)
            publisher = Publisher(await open_channel(broker), self.ledger, self.options.rate)
            progress.look = lambda snapshot: self._look(snapshot, publisher, rest)
            async with checking(
                self.place.amqp,
                self.place.database,
                [service.api],
                Sampling(CHECKS),
                patience=CHECK_PATIENCE,
            ) as self.checker:
                problems = await self._stream(progress, publisher, rest, service)
            progress.phase("verifying")
            self.ledger.record_decided(self.observer.decided)
            verdict = await verify(self.ledger, database, broker, service.api)
            return await self._report(publisher, verdict, problems, Stored(database))

    async def _stream(
        self, progress: Progress, publisher: Publisher, rest: Rest, service: Service
    ) -> list[str]:
        """Publish everything while readers read; returns what went wrong."""
        messages = self._plan(progress.snapshot)
        progress.phase(f"seven agents publish {progress.snapshot.planned:,} events")
        readers = read_along(
            service.api, self.known, self.reads, rate=self.options.reads, seed=self.options.seed
        )
        try:
            async with alongside(readers), alongside(_every(REFRESH_SECONDS, progress.refresh)):
                await self._publish(publisher, rest, self._noted(messages, service))
                progress.phase("waiting until everything is at rest")
                await rest.wait(self.options.rest, service.group.check)
        except (NotAtRest, PublishFailed, ProcessEnded) as error:
            return [str(error)]
        return []

    async def _publish(self, publisher: Publisher, rest: Rest, messages: Iterator[Message]) -> None:
        """Send everything, counting what has arrived meanwhile."""
        sent = asyncio.Event()
        counting = asyncio.create_task(_keep_looking(rest, sent))
        try:
            await publisher.send_all(messages)
        finally:
            sent.set()
            await counting

    def _plan(self, snapshot: Snapshot) -> list[Message]:
        options, run = self.options, self.ledger.run
        start = datetime.now(UTC)
        events = simulate(run=run, seed=options.seed, start=start, rate=options.rate, events=options.events)
        faults = plan_faults(run=run, start=start, rate=options.rate, seed=options.seed)
        rng = Random(options.seed)
        messages = list(pack(disturb(events, faults, rng), rng))
        snapshot.planned = sum(len(message.events) for message in messages)
        return messages

    def _noted(self, messages: list[Message], service: Service) -> Iterator[Message]:
        """The same messages; on the way readers learn of what they may ask for."""
        lists = {
            "task.created": ("task_id", self.known.tasks),
            "round.opened": ("round_id", self.known.rounds),
            "agent.registered": ("agent_id", self.known.agents),
        }
        for number, message in enumerate(messages):
            if number % 500 == 0:
                service.group.check()
            yield message
            for planned in message.events:
                if planned.reason is None and planned.event.type in lists:
                    name, known = lists[planned.event.type]
                    known.append(planned.event.data[name])

    def _look(self, snapshot: Snapshot, publisher: Publisher, rest: Rest) -> None:
        counts = publisher.counts
        snapshot.sent, snapshot.confirmed = counts.sent, counts.confirmed
        snapshot.stored, snapshot.refused = rest.stored, rest.refused
        snapshot.applied = len(self.observer.applied)
        snapshot.reads, snapshot.hit_ratio = sum(self.reads.statuses.values()), self.reads.hit_ratio
        snapshot.latency = counts.latency
        snapshot.awaited = rest.awaited
        if counts.started_at:
            snapshot.rate = counts.confirmed / ((counts.ended_at or time.time()) - counts.started_at)

    async def _report(
        self, publisher: Publisher, verdict: Verdict, problems: list[str], stored: Stored
    ) -> Report:
        notes = []
        committed = await stored.commit_times(self.ledger.sources)
        if committed is None:
            committed = {key: row.recorded_at.timestamp() for key, row in verdict.history}
            notes.append("PostgreSQL does not track commit times; the start of each transaction stands in")
        return Report(
            ledger=self.ledger,
            counts=publisher.counts,
            verdict=verdict,
            reads=self.reads,
            committed=report.commit_latency(self.ledger, committed),
            fresh=report.fresh_latency(self.ledger, verdict.history, self.observer),
            confirmed=Latency.of(s.confirmed_at - s.published_at for s in self.ledger.good.values()),
            batches=report.batches_of(verdict.history),
            seconds=time.monotonic() - self.begun,
            seed=self.options.seed,
            folder=self.place.folder,
            problems=problems,
            notes=notes,
            caches=self.checker.report() if self.checker else None,
        )


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` while the body runs, then cancels it; what it raised is raised here."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection of our own, apart from the service's pools.

    Raises:
        ConfigurationError: the server cannot be reached or refuses us.
    """
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def brokered(url: str) -> AbstractConnection:
    """A connection to RabbitMQ.

    Raises:
        ConfigurationError: the server cannot be reached or refuses us.
    """
    try:
        return await aio_pika.connect(url, timeout=10)
    except (OSError, AMQPError) as error:
        raise ConfigurationError(f"cannot connect to RabbitMQ: {explain(error) or error}") from error


async def _every(seconds: float, act: Callable[[], None]) -> None:
    while True:
        act()
        await asyncio.sleep(seconds)


async def _keep_looking(rest: Rest, until: asyncio.Event) -> None:
    """Counts for the display; the longer counting takes, the more seldom. Told to end and not cancelled,
    since a cancelled query or AMQP call costs its connection or channel."""
    while not until.is_set():
        begin = time.monotonic()
        await rest.look()
        pause = max(COUNT_SECONDS, 10 * (time.monotonic() - begin))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), pause)
