"""The hot path: a batch comes in, takes effect, is published, settles.

Every event of a batch settles exactly once: stored, or confirmed in quarantine. An error rolls the
whole batch back; `streams.outcome` says whose fault it is, and this module acts on it:

    TRANSIENT    back off, try the same batch again; after some tries in halves
    ENVIRONMENT  pause: not ready, wait, try the same batch again
    DATA         halve until the culprit is alone, quarantine it
    UNKNOWN      the same, but nothing is quarantined before something else was stored since; pause until then
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from schemas.contract import Subscription, Trigger
from schemas.errors import EventError, KillsWorker
from streams.acks import AckTracker
from streams.batcher import Closed
from streams.delivery import Delivery, Item
from streams.health import Health
from streams.outbox import Outbox
from streams.outcome import TRANSIENT_TRIES, Verdict, describe, is_connection_lost, judge, reason_for
from streams.publisher import Outgoing, Publisher, PublishFailed
from streams.quarantine import Quarantine
from streams.stores import Applied, BatchStore
from streams.suspects import Court
from streams.telemetry import BatchTrace, QueueMetrics, Tracing, bind_trace, exemplar

log = structlog.get_logger(__name__)

_SAME_BUG: Final = 8  # events that a handler fails on, and none that it stores: it fails on everything
_LAST_CHANCE: Final = 5  # pauses, some 6 s, before a single event is refused without proof
_LONGEST_WAIT: Final = 5.0
_AT_ONCE: Final = 256  # messages that are published without waiting for each other's confirms

Failed = tuple[Item, Exception]
More = Callable[[], list[Item]]
Repair = Callable[[BaseException, Sequence[Item]], Awaitable[bool]]


class Pipeline:
    """Runs the batches of one subscription; several at once, one per lane.

    Args:
        observe_ages: takes the ages of a batch's events in seconds once its effect stands, and its trace.
        repair: called on an environment error before waiting; True when it repaired the cause.
    """

    def __init__(
        self,
        subscription: Subscription,
        store: BatchStore,
        publisher: Publisher,
        outbox: Outbox | None,
        quarantine: Quarantine,
        court: Court,
        health: Health,
        tracing: Tracing,
        metrics: QueueMetrics,
        observe_ages: Callable[[list[float], str | None], None],
        repair: Repair | None = None,
    ) -> None:
        self._name = subscription.name
        self._queue = subscription.queue
        self._store = store
        self._publisher = publisher
        self._outbox = outbox
        self._quarantine = quarantine
        self._court = court
        self._health = health
        self._tracing = tracing
        self._metrics = metrics
        self._observe_ages = observe_ages
        self._repair = repair
        self._stored_batches = 0
        self._doubted_at = 0
        self._paused: set[asyncio.Task[object] | None] = set()

    @property
    def is_paused(self) -> bool:
        """Whether a lane waits for the world to be repaired."""
        return bool(self._paused)

    async def run(self, closed: Closed[Item], more: More = list) -> None:
        """Store a batch, whatever it takes; returns when each of its events has settled.

        Args:
            more: events that wait, for when it must be known whether anything can be stored.
        """
        self._metrics.batch(closed.trigger, len(closed.items))
        try:
            good = await self._sound(closed.items)
            if good:
                await self._store_all(good, closed.trigger, more)
            else:
                await self._acknowledge(closed.items)
        finally:
            self._go_on()

    async def run_suspect(self, delivery: Delivery, read: Callable[[Delivery], list[Item]]) -> None:
        """Read and store a message that may be what kills workers, alone in the process."""
        items = await self._read_alone(delivery, read)
        if items:
            await self.run(Closed(items, Trigger.SUSPECT))
        else:
            await delivery.acks.flush()  # all done already: events that we published ourselves

    async def _read_alone(self, delivery: Delivery, read: Callable[[Delivery], list[Item]]) -> list[Item]:
        tries = 0
        while True:
            try:
                async with self._court.decoding(delivery):
                    return read(delivery)
            except EventError as error:
                return [Item(delivery, None, error)]
            except Exception as error:  # noqa: BLE001 - the record of trials is out of reach
                tries += 1
                await self._pause(error, [], tries)

    async def _sound(self, items: Sequence[Item]) -> list[Item]:
        """The events that could be read; the others are refused."""
        good = []
        for item in items:
            if item.error is None:
                good.append(item)
            else:
                await self._refuse(item, item.error)
        return good

    async def _store_all(self, items: Sequence[Item], trigger: Trigger, more: More) -> None:
        """Store the batch; what a handler fails on is refused once it is shown that others go through."""
        since, tries = self._stored_batches, 0
        failed: list[Failed] = []
        untried: list[Item] = []
        await self._bisect(items, trigger, failed, untried, since)
        while failed or untried:
            proven = self._stored_batches > since
            if not untried and (proven or self._may_doubt(failed, tries)):
                if not proven:
                    self._doubted_at = self._stored_batches
                for item, error in failed:
                    await self._refuse(item, error, tries + 1)
                await self._acknowledge([item for item, _ in failed])
                return
            again = [*untried, *(item for item, _ in failed)]  # begin where the last round gave up
            witnesses: list[Item] = []
            if not proven:
                tries += 1
                await self._pause(failed[0][1], again, tries)
                if len(again) < _SAME_BUG:
                    witnesses = await self._sound(more())
            failed, untried = [], []
            if witnesses:
                await self._bisect(witnesses, Trigger.ALONE, failed, untried, since)
            await self._bisect(again, _part_of(trigger), failed, untried, since)

    def _may_doubt(self, failed: Sequence[Failed], tries: int) -> bool:
        """Whether a single event may be refused without proof, since nothing else comes that could give one.
        Once, until something is stored again: a handler that fails on everything would refuse one after the
        other."""
        return len(failed) == 1 and tries >= _LAST_CHANCE and self._stored_batches > self._doubted_at

    async def _bisect(
        self, items: Sequence[Item], trigger: Trigger, failed: list[Failed], untried: list[Item], since: int
    ) -> None:
        """Store what can be stored. Events that the database refuses are quarantined at once; those that a
        handler fails on, each by itself, are collected in `failed`; `untried` are those that were given up
        on because everything failed before them: nothing is known of any of these."""
        error = await self._try(items, trigger)
        if error is None:
            return
        if len(items) == 1 and judge(error) is Verdict.DATA:
            await self._refuse(items[0], error)
            await self._acknowledge(items)
        elif len(items) == 1:
            failed.append((items[0], error))
        elif len(failed) >= _SAME_BUG and self._stored_batches == since:
            untried.extend(items)
        elif isinstance(error, KillsWorker):
            for item in items:  # not by halves: each trial that finds the culprit costs a worker
                await self._bisect([item], trigger, failed, untried, since)
        else:
            middle = len(items) // 2
            await self._bisect(items[:middle], _part_of(trigger), failed, untried, since)
            await self._bisect(items[middle:], _part_of(trigger), failed, untried, since)

    async def _try(self, items: Sequence[Item], trigger: Trigger) -> Exception | None:
        """Try until the events are stored and settled, or are themselves at fault: then why."""
        tries = 0
        while True:
            tries += 1
            try:
                applied, trace = await self._attempt(items, trigger)
            except Exception as error:  # noqa: BLE001 - the table in streams.outcome sorts them
                verdict = judge(error, tries)
                if verdict is Verdict.TRANSIENT and tries < TRANSIENT_TRIES:
                    await self._back_off(verdict, tries)
                elif verdict is Verdict.TRANSIENT and len(items) > 1 and not is_connection_lost(error):
                    return error  # smaller transactions lose fewer races
                elif verdict in (Verdict.TRANSIENT, Verdict.ENVIRONMENT):
                    await self._pause(error, items, tries)
                else:
                    return error
            else:
                # Outside the `try`: what stands must never be applied, or settled, a second time.
                self._stored_batches += 1
                await self._settle(items, trigger, applied, trace)
                return None

    async def _attempt(self, items: Sequence[Item], trigger: Trigger) -> tuple[Applied, BatchTrace]:
        """Work and publish; afterwards the effect stands."""
        trace = self._tracing.batch(self._name, self._queue, [item.trace for item in items if item.trace])
        bind_trace(trace.trace_id, trace.span_id)
        place = self._court.trial(items) if trigger is Trigger.SUSPECT else self._court.beside()
        try:
            async with place:
                applied = await self._store.apply(items, trigger, trace)
                stood = time.perf_counter()
                await self._publish(applied, trace)
                self._metrics.publish.observe(time.perf_counter() - stood, exemplar(trace.recorded_id))
        except BaseException as error:
            trace.end(trigger=trigger, size=len(items), error=error, decided=False)
            raise
        return applied, trace

    async def _settle(
        self, items: Sequence[Item], trigger: Trigger, applied: Applied, trace: BatchTrace
    ) -> None:
        """Acknowledge, then tell telemetry."""
        done = time.perf_counter()
        ages = []
        for item in items:  # once: by now each of them has left the processor's caches
            item.delivery.settle()
            if item.event is not None:
                ages.append((applied.at - item.event.time).total_seconds())
        with trace.settle(len(items)):
            await self._acknowledge(items)
        trace.end(trigger=trigger, size=len(items), repeats=applied.repeats)
        self._go_on()
        metrics = self._metrics
        metrics.stored.inc(len(items) - applied.repeats)
        metrics.repeats.inc(applied.repeats)
        example = exemplar(trace.recorded_id)
        metrics.transaction.observe(applied.seconds, example)
        metrics.settle.observe(time.perf_counter() - done, example)
        self._observe_ages(ages, trace.recorded_id)

    async def _publish(self, applied: Applied, trace: BatchTrace) -> None:
        """Publish what the batch changed. What cannot be published now is in the outbox for later."""
        try:
            for start in range(0, len(applied.messages), _AT_ONCE):
                await self._publish_at_once(applied.messages[start : start + _AT_ONCE], trace)
        except Exception as error:
            if not applied.in_outbox:
                raise
            log.warning("left to the outbox", queue=self._queue, error=type(error).__name__)
        else:
            if applied.in_outbox and self._outbox is not None:
                self._outbox.published(applied.batch_id)

    async def _publish_at_once(self, messages: Sequence[Outgoing], trace: BatchTrace) -> None:
        """Wait for all confirms together: a round trip for each would hold the lane for as many."""

        async def send(message: Outgoing) -> None:
            with trace.send(message.exchange, routing_key=message.routing_key) as step:
                await self._publisher.publish(message, step.inject({}))

        if len(messages) == 1:
            await send(messages[0])
            return
        for error in await asyncio.gather(*map(send, messages), return_exceptions=True):
            if error is not None:
                raise error

    async def _acknowledge(self, items: Sequence[Item]) -> None:
        trackers: dict[int, AckTracker] = {id(item.delivery.acks): item.delivery.acks for item in items}
        for tracker in trackers.values():
            await tracker.flush()

    async def _refuse(self, item: Item, error: BaseException, attempts: int = 1) -> None:
        """Quarantine one event: confirmed first, settled afterwards."""
        if item.delivery.acks.closed:
            item.delivery.settle()  # its channel is gone: who is given it next refuses it
            return
        reason = reason_for(error)
        field = error.field if isinstance(error, EventError) else ""
        tries = 0
        while True:
            try:
                await self._quarantine.put(item, reason, describe(error), field=field, attempts=attempts)
                break
            except PublishFailed as failure:
                tries += 1
                await self._pause(failure, [item], tries)
        self._go_on()
        self._metrics.quarantined(reason)
        if item.trace is not None:
            item.trace.fail(reason)
            self._tracing.settle(item.trace)
            bind_trace(item.trace.trace_id, item.trace.span)
        log.warning("quarantined", queue=self._queue, reason=str(reason), field=field)
        item.delivery.settle()

    async def _back_off(self, verdict: Verdict, tries: int) -> None:
        """Full jitter: whoever lost a race to the same rows must not meet them again."""
        self._metrics.retried(verdict)
        await asyncio.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.02 * 2**tries)))

    async def _pause(self, error: BaseException, items: Sequence[Item], tries: int) -> None:
        """Not the events' fault: report not ready, wait, and let the caller try again. Meanwhile the
        lane is held, so that prefetch stops the broker's deliveries."""
        if self._repair is not None and tries <= 2 and await self._repair(error, items):
            return
        self._metrics.retried(judge(error))
        self._metrics.paused.set(1)
        self._paused.add(asyncio.current_task())
        self._health.trouble(self._queue, f"paused: {describe(error)}")
        log.error("paused", queue=self._queue, error=describe(error), tries=tries)
        await asyncio.sleep(min(_LONGEST_WAIT, 0.1 * 2 ** min(tries, 10)) * random.uniform(0.5, 1.5))

    def _go_on(self) -> None:
        """This lane waits no longer; the queue is well once none does."""
        if self._paused:
            self._paused.discard(asyncio.current_task())
            if not self._paused:
                self._health.clear(self._queue)
                self._metrics.paused.set(0)


def _part_of(trigger: Trigger) -> Trigger:
    return Trigger.SUSPECT if trigger is Trigger.SUSPECT else Trigger.ALONE
