"""The composition root: the only place in the engine that names concrete handlers.

A worker runs the handlers that write to PostgreSQL, an updater those that write to Redis. Both are
built from the same parts:

    subscriber (edge) -> intake (decode, budget, batch) -> lanes -> pipeline -> store -> publisher
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from schemas.contract import Store, Subscription
from schemas.errors import ConfigurationError
from streams import partitions
from streams.amqp import tolerate_any_property
from streams.budget import Budget
from streams.cache import Cache, connect_redis
from streams.database import Database
from streams.declare import declare_or_find
from streams.decode import Decoder, Window
from streams.edge import BatchSubscriber, Broker, subscribe
from streams.gauges import Gauges
from streams.health import Health, HealthServer
from streams.intake import Intake
from streams.lifecycle import end, first_of_ours, quietly, stop_on_signals, unless, until_up
from streams.lookups import Lookups
from streams.outbox import Outbox
from streams.pipeline import Pipeline
from streams.publisher import Publisher
from streams.quarantine import Quarantine
from streams.reader import Reader
from streams.registry import load_subscriptions, require_updater
from streams.repair import repairer
from streams.seats import Seats
from streams.settings import Settings, TraceOrigin, require
from streams.solo import Solo
from streams.stores import BatchStore, PostgresStore, RedisStore
from streams.suspects import Court, PostgresTrials, RedisTrials, Trials
from streams.telemetry import Telemetry
from streams.topology import Topology
from streams.updating import Updating
from streams.watchdog import Consumer, Watchdog

log = structlog.get_logger(__name__)

_WATCH_SECONDS = 1.0


class Service:
    """A worker (`Store.POSTGRES`) or an updater (`Store.REDIS`): from its settings to its end.

    Raises:
        ConfigurationError: the settings cannot work; nothing was started.
    """

    def __init__(self, settings: Settings, role: Store) -> None:
        tolerate_any_property()
        self._settings = settings
        self._everything = load_subscriptions(settings.handlers)
        require_updater(self._everything)
        self._subscriptions = [s for s in self._everything if s.store is role]
        self._policies = {s.queue: settings.batch_policy(s.batch) for s in self._subscriptions}
        name = self.name = "worker" if role is Store.POSTGRES else "updater"
        lanes = sum(policy.most_lanes for policy in self._policies.values())
        links = max((policy.size for policy in self._policies.values()), default=1)
        # What an updater takes in comes from our workers: there the trace goes on in any case.
        link_origins = role is Store.POSTGRES and settings.trace_context is TraceOrigin.LINK
        self.telemetry = Telemetry.from_environment(name, link_limit=links, link_origins=link_origins)
        own = self.telemetry.metrics
        self._database = (
            Database(settings, name, at_least=lanes + 2, metrics=own) if role is Store.POSTGRES else None
        )
        self._publisher = Publisher(require(settings.amqp_url, "AMQP_URL"), f"streams-{name}-publisher")
        self._broker = Broker(require(settings.amqp_url, "AMQP_URL"), f"streams-{name}", tap=settings.tap)
        self._budget = Budget(settings.max_held_bytes, self._broker.hold, self._broker.resume)
        self._seats = Seats()
        self._solo = Solo()
        self._trials: Trials | None = None
        self._cache: Cache | None = None
        self._writer: Updating | None = None
        self._lookups: Lookups | None = None
        self._outbox: Outbox | None = None
        self.health = Health()
        self._subscribers: dict[str, BatchSubscriber] = {}
        self._consumers: list[Consumer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.intakes: dict[str, Intake] = {}
        self._gauges = Gauges(own, self.health, self._budget, self.intakes, self._publisher)
        self._http = HealthServer(
            self.health, own, settings.http_host, settings.http_port, self._gauges.refresh
        )

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Start, serve until SIGTERM, SIGINT or `stop`, drain, close.

        Raises:
            ConfigurationError: what the servers hold does not fit the settings.
            ConsumerLost, HandlerStuck: it cannot go on, and should be started anew.
        """
        with first_of_ours():
            await self._run(stop or stop_on_signals())

    async def _run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            http = group.create_task(self._http.serve(), name="http")
            try:
                if await unless(stop, self._start()):
                    await self._consume_until(stop, group)
            finally:
                await self._close()
                await end(self._tasks)
                self._http.stop()
                http.cancel()

    async def _consume_until(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> None:
        lanes = self._start_lanes(group)
        background = self._start_background(group)
        self._tasks = [*lanes, *background]
        gc.collect()
        gc.freeze()  # what start-up made lives on; later collections need not look at it
        if await unless(stop, until_up(self.health, "consumers", self._broker.start)):
            watchdog = group.create_task(self._watchdog().run(), name="watchdog")
            self._ready()
            await stop.wait()
            watchdog.cancel()
        await self._drain(lanes)
        for task in background:
            task.cancel()

    @property
    def http_port(self) -> int:
        """Where /livez, /readyz and /metrics are."""
        return self._http.port

    @property
    def unacknowledged(self) -> int:
        """Messages that were delivered to this process and not acknowledged yet."""
        return sum(subscriber.unacknowledged for subscriber in self._subscribers.values())

    async def _start(self) -> None:
        """Everything but consuming. Waits for servers that are not there yet."""
        if self._database is not None:
            self._trials = PostgresTrials(self._database)
            await until_up(self.health, "PostgreSQL", self._database.connect)
            await until_up(self.health, "schema", self._check_window)
            self._outbox = Outbox(
                self._database,
                self._publisher,
                self.telemetry.metrics,
                grace=self._settings.outbox_grace_seconds,
            )
            self._gauges.outbox = self._outbox
        else:
            redis = connect_redis(require(self._settings.redis_url, "REDIS_URL"), self.name)
            self._cache = Cache(redis, metrics=self.telemetry.metrics)
            if self._settings.database_url is not None:
                lanes = sum(policy.most_lanes for policy in self._policies.values())
                self._lookups = Lookups(self._settings, self.name, size=lanes)
            self._writer = Updating(self._cache, redis, self._lookups, self.telemetry.metrics)
            self._trials = RedisTrials(redis)
        await until_up(self.health, "RabbitMQ", self._publisher.connect)
        await until_up(self.health, "topology", self._declare)
        for subscription in self._subscriptions:
            self._build(subscription)

    async def _declare(self) -> None:
        """Declare all queues, the other role's too: what this process publishes must find its own."""
        await declare_or_find(require(self._settings.amqp_url, "AMQP_URL"), Topology.of(self._everything))

    async def _check_window(self) -> None:
        """Refuse to accept events that storage would not take."""
        assert self._database is not None
        async with self._database.pool.acquire() as connection:
            floor = await partitions.floor(connection)
        if datetime.now(UTC) - self._settings.retention < floor:
            raise ConfigurationError(
                f"STREAMS_RETENTION_DAYS={self._settings.retention_days} reaches before {floor:%Y-%m-%d}, "
                "the earliest month that is kept: lower it, or raise partitioned_tables.retention"
            )

    def _build(self, subscription: Subscription) -> None:
        settings, telemetry, queue = self._settings, self.telemetry, subscription.queue
        metrics = telemetry.metrics.queue(queue)

        def cached(ages: Collection[float], trace_id: str | None) -> None:
            telemetry.metrics.event_age_at_cache.observe(ages, trace_id=trace_id)

        assert self._trials is not None
        pipeline = Pipeline(
            subscription,
            self._store(subscription),
            self._publisher,
            self._outbox,
            Quarantine(self._publisher, queue),
            Court(queue, self._solo, self._trials),
            self.health,
            telemetry.tracing,
            metrics,
            metrics.committed if subscription.store is Store.POSTGRES else cached,
            repair=repairer(self._database),
        )
        decoder = Decoder(
            subscription.types | subscription.publishes,
            Window(settings.retention, settings.clock_skew),
            max_bytes=settings.max_message_bytes,
            max_events=settings.max_events_per_message,
            max_depth=settings.max_json_depth,
        )
        intake = self.intakes[queue] = Intake(
            self._policies[queue],
            Reader(
                queue,
                decoder,
                telemetry.tracing,
                frozenset(subscription.publishes),
                facts=subscription.store is Store.POSTGRES,
            ),
            pipeline,
            self._budget,
            self._seats,
            metrics,
            max_bytes=settings.max_decoded_bytes,
            suspect_after=settings.suspect_deliveries,
        )
        subscriber = self._subscribers[queue] = subscribe(
            self._broker, subscription, settings.prefetch, intake.offer
        )
        self._consumers.append(
            Consumer(
                queue,
                subscriber,
                intake,
                pipeline,
                self.health,
                telemetry.metrics,
                prefetch=settings.prefetch,
                fewest=2 * self._policies[queue].lanes,
                hold_seconds=settings.hold_seconds,
                share=settings.max_held_bytes // len(self._subscriptions),
            )
        )

    def _watchdog(self) -> Watchdog:
        return Watchdog(
            self._consumers,
            self._budget,
            self._publisher.count,
            compare_seconds=self._settings.watchdog_seconds,
        )

    def _store(self, subscription: Subscription) -> BatchStore:
        if self._database is not None:
            return PostgresStore(self._database, subscription)
        assert self._writer is not None
        return RedisStore(self._writer, subscription)

    def _start_lanes(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [
            group.create_task(intake.lane(), name=f"{queue} lane {number}")
            for queue, intake in self.intakes.items()
            for number in range(self._policies[queue].most_lanes)
        ]

    def _start_background(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        watch = group.create_task(self._watch(), name="watch")
        if self._database is None or self._outbox is None:
            return [watch]
        keeper = partitions.PartitionKeeper(
            self._database.pool, self.telemetry.metrics, self._report_partitions
        )
        return [
            watch,
            group.create_task(self._outbox.run(), name="outbox"),
            group.create_task(keeper.run(), name="partitions"),
        ]

    async def _watch(self) -> None:
        """Not ready while the broker is away: nothing is consumed then."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            away = [c.queue for c in self._consumers if not c.is_given_back and not c.is_consuming]
            if away or self._publisher.is_closed:
                self.health.trouble("RabbitMQ", f"not connected: {', '.join(away) or 'publisher'}")
            else:
                self.health.clear("RabbitMQ")

    def _report_partitions(self, ahead: Mapping[str, int]) -> None:
        """Not ready once a table has nothing but its current period left."""
        short = sorted(table for table, periods in ahead.items() if periods < 1)
        if short:
            self.health.trouble("partitions", f"none ahead for {', '.join(short)}")
        else:
            self.health.clear("partitions")

    def _ready(self) -> None:
        self.health.clear("start")
        log.info(
            "ready",
            role=self.name,
            queues=sorted(self._subscribers),
            health=f"http://{self._http.host}:{self._http.port}/readyz",
            metrics=f"http://{self._http.host}:{self._http.port}/metrics",
        )

    async def _drain(self, lanes: Sequence[asyncio.Task[None]]) -> None:
        """No more deliveries; finish what is here, within the deadline; leave the rest to the broker."""
        self.health.trouble("stop", "stopping")
        log.info("stopping", role=self.name)
        self._broker.resume()  # what the broker answers comes behind what was not read yet
        await asyncio.gather(*(quietly(s.cancel(), "cancel", 2.0) for s in self._subscribers.values()))
        for intake in self.intakes.values():
            intake.drain()
        _, unfinished = await asyncio.wait(lanes, timeout=self._settings.shutdown_seconds)
        for lane in unfinished:
            lane.cancel()  # its transaction rolls back; the broker delivers these events again
        if unfinished:
            await asyncio.wait(unfinished, timeout=2.0)
        returned = {queue: s.unacknowledged for queue, s in self._subscribers.items()}
        for queue, count in returned.items():
            self.telemetry.metrics.queue(queue).returned.inc(count)
        log.info("drained", role=self.name, returned=sum(returned.values()))

    async def _close(self) -> None:
        """Close everything, each within its time, whatever the others do."""
        if self._outbox is not None:
            await quietly(self._outbox.flush(), "outbox", 2.0)  # else its rows stay for the sweeper
        endings = [
            quietly(self._broker.end(), "consumers", 3.0),
            quietly(self._publisher.close(), "publisher", 3.0),
        ]
        if self._cache is not None:
            endings.append(quietly(self._cache.close(), "Redis", 3.0))
        if self._lookups is not None:
            endings.append(quietly(self._lookups.close(), "PostgreSQL", 3.0))
        if self._database is not None:
            endings.append(quietly(self._database.close(timeout=2.5), "PostgreSQL", 3.0))
        await asyncio.gather(*endings)
        await quietly(asyncio.to_thread(self.telemetry.shutdown, 5.0), "telemetry", 6.0)
