"""Keeps the consumers that should be, and gives back what is held too long.

A consumer can be gone while its channel looks well: the library believes it was restored, the broker knows
nothing of it, and the queue grows. Several workers share a queue, so that the broker's count tells little
about one's own. Hence two signs: nobody consumes at all; or messages wait that we have room for, and none
of them came. Either, seen twice in a row, makes the watchdog subscribe anew; when that does not help it ends
the process with an error that says so, for a supervisor to start it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import aio_pika.exceptions
import structlog

from schemas.errors import StreamsError
from streams.acks import AckTracker
from streams.budget import Budget
from streams.health import Health
from streams.intake import Intake
from streams.pipeline import Pipeline
from streams.telemetry import Metrics

log = structlog.get_logger(__name__)

TICK: Final = 1.0  # seconds
UNREAD: Final = (
    10.0  # seconds without progress that the connection may stay unread; RabbitMQ cuts it after 30
)
_TRIES: Final = 3  # subscriptions anew, before the process ends
_BOUND: Final = 10.0  # seconds for each exchange with the broker
_AMQP: Final = (OSError, TimeoutError, aio_pika.exceptions.AMQPError, RuntimeError)


class ConsumerLost(StreamsError):
    """The broker does not serve us, whatever we do."""


class HandlerStuck(StreamsError):
    """A handler does not come back."""


class Subscriber(Protocol):
    """What the edge gives for a queue."""

    @property
    def is_consuming(self) -> bool: ...

    @property
    def unacknowledged(self) -> int: ...

    async def give_back(self) -> None: ...

    async def take_up(self, prefetch: int) -> None: ...

    async def set_prefetch(self, prefetch: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a queue at one moment."""

    consuming: bool
    """Our channel is open."""
    consumers: int
    """Of all processes, says the broker."""
    ready: int
    """Messages that nobody was given."""
    received: int
    """By us, since we started."""
    room: bool
    """Our prefetch is not used up."""


def is_lost(before: Look, now: Look) -> bool:
    """Whether two looks in a row show that our consumer is not there."""
    nobody = before.consumers == 0 == now.consumers
    closed = not before.consuming and not now.consuming
    starving = before.ready > 0 < now.ready and before.room and now.room and before.received == now.received
    return nobody or closed or starving


class Consumer:
    """The consumer of one queue: consuming, or given back until its pipeline is well again.

    Args:
        hold_seconds: that a message may be held unsettled; below the broker's consumer timeout.
        share: bytes that the messages handed out should take together.
    """

    def __init__(
        self,
        queue: str,
        subscriber: Subscriber,
        intake: Intake,
        pipeline: Pipeline,
        health: Health,
        metrics: Metrics,
        *,
        prefetch: int,
        fewest: int,
        hold_seconds: float,
        share: int,
    ) -> None:
        self.queue = queue
        self._subscriber = subscriber
        self._intake = intake
        self._pipeline = pipeline
        self._health = health
        self._trouble = f"consumer of {queue}"
        self._returned = metrics.queue(queue).returned
        self._expected = metrics.consumers_expected.labels(queue)
        self._reported = metrics.consumers_reported.labels(queue)
        self._most = self._prefetch = prefetch
        self._fewest = min(fewest, prefetch)
        self._hold_seconds = hold_seconds
        self._share = share
        self._front: tuple[AckTracker, int] | None = None
        self._front_since = 0.0
        self._sized = (0, 0)
        self._look: Look | None = None
        self._lost = 0
        self.is_given_back = False
        self._expected.set(1)

    @property
    def is_consuming(self) -> bool:
        return self._subscriber.is_consuming

    async def tick(self, now: float, budget: Budget) -> None:
        """Give back, take up, follow the size of messages.

        Raises:
            HandlerStuck: nothing is paused, and a message was held for `hold_seconds` all the same.
        """
        if self.is_given_back:
            if not self._pipeline.is_paused and budget.has_room:
                await self._take_up()
        elif self._held_for(now) >= self._hold_seconds:
            if not self._pipeline.is_paused:
                raise HandlerStuck(f"a batch of {self.queue} has not ended for {self._hold_seconds:g} s")
            self.disown(f"held for {self._hold_seconds:g} s")
            await self.give_back()
        elif budget.holding_since is None:  # else the broker's answers are not read
            await self._follow_size()

    async def compare(self, count: Callable[[str], Awaitable[tuple[int, int]]], budget: Budget) -> None:
        """Compare what should be with what the broker reports; subscribe anew if need be.

        Raises:
            ConsumerLost: that was tried, and did not help.
        """
        try:
            ready, consumers = await count(self.queue)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            ready, consumers = 0, 0  # somebody deleted the queue
        except _AMQP:
            self._look = None  # the broker is away: nothing is known
            return
        self._reported.set(consumers)
        before, subscriber = self._look, self._subscriber
        room = subscriber.unacknowledged < self._prefetch
        self._look = Look(subscriber.is_consuming, consumers, ready, self._intake.received, room)
        if self.is_given_back:
            lost = self._lost > 0  # subscribing anew does not even succeed, though the broker answers
        elif before is None or budget.holding_since is not None:
            return
        else:
            lost = is_lost(before, self._look)
        if not lost:
            if self._lost and not self.is_given_back:
                self._lost = 0
                self._health.clear(self._trouble)
            return
        self._lost += 1
        if self._lost > _TRIES:
            raise ConsumerLost(
                f"no consumer of ours is served on {self.queue!r}; {_TRIES} new subscriptions were in vain"
            )
        self._look = None
        if not self.is_given_back:
            self.disown("the broker knows nothing of our consumer")
            await self.give_back()

    def _held_for(self, now: float) -> float:
        """Seconds that the oldest unacknowledged message is the same one."""
        front = self._intake.front
        if front is None or front != self._front:
            self._front, self._front_since = front, now
            return 0.0
        return now - self._front_since

    def disown(self, why: str) -> None:
        """The first half of giving back: hold nothing any more. Makes room at once."""
        if self.is_given_back:
            return
        count = self._subscriber.unacknowledged
        log.warning("giving messages back", queue=self.queue, messages=count, why=why)
        self._health.trouble(self._trouble, f"gave its messages back: {why}")
        self._returned.inc(count)
        self.is_given_back = True
        self._expected.set(0)
        self._intake.disown()

    async def give_back(self) -> None:
        """The second half: tell the broker."""
        await self._bounded(self._subscriber.give_back())

    async def _take_up(self) -> None:
        self._prefetch = self._fitting()
        if await self._bounded(self._subscriber.take_up(self._prefetch)):
            log.info("consuming again", queue=self.queue, prefetch=self._prefetch)
            self.is_given_back = False
            self._expected.set(1)
            if not self._lost:
                self._health.clear(self._trouble)

    async def _follow_size(self) -> None:
        fitting = self._fitting()
        if not self._prefetch // 2 < fitting < self._prefetch * 2 or (
            fitting == self._most != self._prefetch
        ):
            log.info("prefetch follows the messages' size", queue=self.queue, prefetch=fitting)
            if await self._bounded(self._subscriber.set_prefetch(fitting)):
                self._prefetch = fitting

    def _fitting(self) -> int:
        """The prefetch that fits the messages that came since the last time."""
        intake = self._intake
        count, size = intake.received - self._sized[0], intake.received_bytes - self._sized[1]
        if count < self._fewest:
            return self._prefetch
        self._sized = (intake.received, intake.received_bytes)
        return min(self._most, max(self._fewest, self._share * count // max(1, size)))

    async def _bounded(self, step: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(_BOUND):
                await step
        except _AMQP as error:
            log.warning("the broker did not answer", queue=self.queue, error=type(error).__name__)
            return False
        return True


class Watchdog:
    """Watches all consumers of a process.

    Args:
        count: asks the broker for (messages that wait, consumers) of a queue.
        compare_seconds: between two comparisons with the broker.
    """

    def __init__(
        self,
        consumers: Iterable[Consumer],
        budget: Budget,
        count: Callable[[str], Awaitable[tuple[int, int]]],
        *,
        compare_seconds: float,
        tick: float = TICK,
    ) -> None:
        self._consumers = tuple(consumers)
        self._budget = budget
        self._count = count
        self._compare_seconds = compare_seconds
        self._tick = min(tick, compare_seconds)

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            ConsumerLost, HandlerStuck: the process should end; the message says why.
        """
        compared = time.monotonic()
        while True:
            await asyncio.sleep(self._tick)
            now = time.monotonic()
            await self._make_room(now)
            for consumer in self._consumers:
                await consumer.tick(now, self._budget)
            if now - compared >= self._compare_seconds:
                compared = now
                for consumer in self._consumers:
                    await consumer.compare(self._count, self._budget)

    async def _make_room(self, now: float) -> None:
        """Give all back before the broker takes a connection that is not read to be dead."""
        since = self._budget.holding_since
        if since is None or now - since < UNREAD:
            return
        for consumer in self._consumers:
            consumer.disown("no room, and no progress")
        self._budget.let_through()
        for consumer in self._consumers:
            await consumer.give_back()
