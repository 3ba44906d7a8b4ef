"""One trial: the service under load and a fault, until it has come to rest and been checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import aio_pika
import asyncpg
import httpx

from streams.demo.run import alongside
from streams.demo.traffic import Message
from streams.registry import load_subscriptions
from streams.settings import Settings
from tests.fault.harness import checks
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import Fleet, Nursery
from tests.fault.harness.load import Load, Producer, take_decisions
from tests.fault.harness.place import Corner, Place
from tests.fault.harness.readers import Readers
from tests.fault.harness.rest import Rest
from tests.fault.proxy import Proxy

REST_SECONDS: Final = 60.0  # without any progress
DECISIONS: Final = "fault.decisions"
SERVERS: Final = {"rabbitmq": "amqp", "postgres": "database", "redis": "redis"}


@dataclass(frozen=True, slots=True)
class Stage:
    """What all trials of a run share. `scale`: of the number of events and faults; 1 is the full suite."""

    place: Place
    nursery: Nursery
    scale: float
    report: Callable[[Row], None]

    def scaled(self, number: int, least: int = 1) -> int:
        return max(least, round(number * self.scale))


@dataclass(slots=True)
class Trial:
    """The parts of a trial while it lasts; see `trial`."""

    row: Row
    stage: Stage
    corner: Corner
    load: Load
    fleet: Fleet
    producer: Producer
    readers: Readers
    rest: Rest
    proxy: Proxy | None
    planned: Sequence[Message] = ()
    """What the scenario sends, where its fault needs to know how far that is."""
    unlisted: int = 0
    """Events that the scenario sends and counts by itself, since they are too many for a ledger."""
    count: Callable[[], Awaitable[None]] | None = None
    """How it counts them."""

    @property
    def place(self) -> Place:
        return self.stage.place

    async def publish(self, messages: Sequence[Message], rate: float = 0.0) -> None:
        """Send everything; returns when all is confirmed."""
        await self.producer.send_all(messages, rate)

    @asynccontextmanager
    async def publishing(
        self, messages: Sequence[Message], rate: float = 0.0
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Send while the body does harm; leaving waits until all is confirmed."""
        task = asyncio.create_task(self.publish(messages, rate))
        try:
            yield task
        except BaseException:
            task.cancel()
            await asyncio.wait({task})
            raise
        await task

    async def stored(self) -> int:
        """Events in the history now; -1 while a server is away."""
        now = await self.rest.look()
        return -1 if now is None else now.stored

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """One value from the trial's database, not through the proxy."""
        connection = await asyncpg.connect(self.corner.database, timeout=30)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def troubled(self, word: str) -> bool:
        """Whether a worker reports not ready for a reason that has this word in it."""
        return any(word in trouble for trouble in await self._asked("worker", "/readyz", 503))

    async def all_ready(self) -> bool:
        members = self.fleet.of("worker") + self.fleet.of("updater")
        answers = await self._asked("worker", "/readyz", 200) + await self._asked("updater", "/readyz", 200)
        return len(answers) == len(members)

    async def metric(self, name: str, label: str = "") -> int:
        """The sum of a counter over all running workers, of samples that have `label` in their labels."""
        total = 0.0
        for text in await self._asked("worker", "/metrics", 200):
            for sample in text.splitlines():
                if sample.startswith(name) and label in sample:
                    total += float(sample.rpartition(" ")[2])
        return round(total)

    async def _asked(self, role: str, path: str, status: int) -> list[str]:
        """The bodies of those who answer with this status."""
        bodies = []
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for member in self.fleet.of(role):
                with suppress(httpx.HTTPError):
                    answer = await client.get(f"{member.base}{path}")
                    if answer.status_code == status:
                        bodies.append(answer.text)
        return bodies

    @property
    def wanted(self) -> tuple[int, int]:
        """Good and bad events that must be stored and refused."""
        return len(self.load.ledger.good) + self.unlisted, len(self.load.ledger.bad)

    async def settle(self) -> None:
        """Wait until all is at rest; a timeout is noted and not raised, so that the counters show it."""
        seconds = 5.0 if self.row.problems else REST_SECONDS  # waited for in vain before
        awaited = await self.rest.wait(*self.wanted, seconds)
        if awaited:
            self.row.problems.append(f"not at rest, and no progress for {seconds:.0f} s: {awaited}")
            self.fleet.ask_for_stacks()
            for role in ("worker", "updater"):
                self.row.problems += [
                    f"{role}: {body}"[:300] for body in await self._asked(role, "/readyz", 503)
                ]


@asynccontextmanager
async def trial(
    stage: Stage,
    name: str,
    *,
    workers: int = 1,
    updaters: int = 1,
    reads: float = 40.0,
    through: str | None = None,
    tap: object = None,
    crash: Callable[[], tuple[str, int] | None] = lambda: None,
    **environment: str,
) -> AsyncIterator[Trial]:
    """The service, ready, in a corner of its own; leaving settles, checks and reports the row.

    Args:
        reads: GETs per second of readers while the body runs.
        through: the server that the service reaches through a proxy.
        environment: of the workers and updaters.
    """
    row = Row(name)
    begun = time.monotonic()
    try:
        async with AsyncExitStack() as stack:
            corner = await stack.enter_async_context(stage.place.corner())
            urls, proxy = corner.environment, None
            if through is not None:
                original = getattr(corner, SERVERS[through]) + (
                    "?heartbeat=5" if through == "rabbitmq" else ""
                )
                proxy = await stack.enter_async_context(Proxy(original, tap))  # type: ignore[arg-type]
                seen = replace(corner, **{SERVERS[through]: proxy.url})
                urls = seen.environment
            fleet = Fleet(
                stage.nursery,
                {**urls, "STREAMS_LOG_LEVEL": "INFO", **environment},
                stage.place.port,
                stage.place.logs / f"{name.replace(' ', '-').replace('/', '-')}.log",
                crash,
            )
            stack.push_async_callback(fleet.kill_all)
            load = Load()
            producer = Producer(corner.amqp, load)
            stack.push_async_callback(producer.close)
            queues = tuple(s.queue for s in load_subscriptions(Settings.load().handlers))
            here = Trial(
                row, stage, corner, load, fleet, producer, Readers(load, reads), Rest(corner, queues), proxy
            )
            await _collect_decisions(corner)
            await fleet.start("worker", workers)
            await fleet.start("updater", updaters)
            # The API is asked by readers who stay: it goes to the servers directly.
            (api,) = await fleet.start("api", **corner.environment, STREAMS_PROFILE="development")
            await fleet.ready()
            async with alongside(here.readers.read(api.base)), _counting(row, corner):
                yield here
                await here.settle()
            await _check(here)
    except Exception as error:  # noqa: BLE001 - other trials go on; this one's row says what happened
        row.problems += _in_words(error)
    row.seconds = time.monotonic() - begun
    stage.report(row)


async def _check(here: Trial) -> None:
    """Stop in order, so that what is held shows in the queues; then compare everything."""
    row, fleet, corner = here.row, here.fleet, here.corner
    (cold,) = await fleet.start(
        "api", **{**corner.environment, "REDIS_URL": corner.cold, "STREAMS_PROFILE": "development"}
    )
    await fleet.ready()
    warm = next(member for member in fleet.of("api") if member is not cold)
    for role in ("worker", "updater"):
        await _stop(here, role)
    here.load.ledger.record_decided(await take_decisions(corner.amqp, DECISIONS))
    if here.count is None:
        await checks.count_stored(row, here.load, corner.database)
    else:
        await here.count()
    await checks.count_letters(row, here.load, corner.amqp)
    await checks.count_cached(row, here.load, corner, warm.base, cold.base, here.readers.asked)
    await fleet.stop()
    row.died = len(fleet.died)
    row.details += fleet.died[:5]


async def _stop(here: Trial, role: str) -> None:
    """Until a stop leaves nothing: what a process held and gave back shows in its queues now."""
    for _ in range(3):
        await here.fleet.stop(role)
        if not await here.rest.wait(*here.wanted, 10):
            return
        await here.fleet.start(role)
        await here.settle()
    here.row.problems.append(f"each stop of the {role} gave something back")


def _in_words(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in _in_words(inner)]
    words = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"[:300]
    # What came first is what it is about: what goes wrong while a trial is taken down follows from it.
    return [*(_in_words(error.__context__) if error.__context__ and not error.__cause__ else []), words]


async def _collect_decisions(corner: Corner) -> None:
    """A durable queue of our own: every round.decided, whatever happens to connections."""
    connection = await aio_pika.connect(corner.amqp, timeout=30)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(DECISIONS, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind("votes", "round.decided")


@asynccontextmanager
async def _counting(row: Row, corner: Corner) -> AsyncIterator[None]:
    """Add up what the broker redelivers. Its counters start again when it does; the last few seconds before
    that, and before the end, may be missing."""
    async with alongside(_count_redelivered(row, corner)):
        yield


async def _count_redelivered(row: Row, corner: Corner) -> None:
    before = 0
    async with httpx.AsyncClient(base_url=corner.management, timeout=5, trust_env=False) as client:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                answer = await client.get(f"/api/vhosts/{corner.vhost}")
                count = int(answer.json().get("message_stats", {}).get("redeliver", 0))
                row.redelivered += count - before if count >= before else count
                before = count
            await asyncio.sleep(1.0)
