"""Between the edge and the pipeline: decode, keep within the byte budget, batch, run the lanes.

A delivery waits undecoded while the budget is spent; prefetch bounds how many can wait. Lanes pull:
each runs one batch at a time, so `policy.lanes` transactions are in flight at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from schemas.contract import BatchPolicy
from streams.batcher import Batcher, Closed
from streams.decode import Decoder
from streams.delivery import Delivery, Item
from streams.telemetry import QueueMetrics, Tracing

_TICK: Final = 0.0005  # seconds; a difference that is not worth setting an alarm anew


class ByteBudget:
    """Bytes of message bodies that may be worked on at once. First come, first served; a message
    larger than the whole budget is let in when it is alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.used = 0

    def try_take(self, size: int) -> bool:
        """Take at once, unless the budget is spent or others wait."""
        if self._waiting or not self._fits(size):
            return False
        self.used += size
        return True

    async def take(self, size: int) -> None:
        """Wait for room."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)  # admitted, and cancelled before it could go on
            else:
                self._admit()  # whoever stood behind may fit
            raise

    def give_back(self, size: int) -> None:
        self.used -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return self.used == 0 or self.used + size <= self._limit

    def _admit(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif self._fits(size):
                self._waiting.popleft()
                self.used += size
                turn.set_result(None)
            else:
                return


class Intake:
    """Takes deliveries of one queue and hands batches to the pipeline.

    Args:
        run: stores one batch; returns when every event of it has settled, and never raises for what
            an event or a server did.
        suspect_after: a message delivered more often than this before is tried alone.
        echoes: event types that are done as soon as they are seen.
    """

    def __init__(
        self,
        queue: str,
        policy: BatchPolicy,
        decoder: Decoder,
        run: Callable[[Closed[Item]], Awaitable[None]],
        tracing: Tracing,
        metrics: QueueMetrics,
        *,
        max_bytes: int,
        suspect_after: int,
        echoes: frozenset[str] = frozenset(),
    ) -> None:
        self._queue = queue
        self._policy = policy
        self._decoder = decoder
        self._run = run
        self._tracing = tracing
        self._metrics = metrics
        self._suspect_after = suspect_after
        self._echoes = echoes
        self._budget = ByteBudget(max_bytes)
        self._batcher: Batcher[Item] = Batcher(policy)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self.running = 0
        """Events in lanes now."""

    @property
    def waiting(self) -> int:
        """Events that are decoded and in no lane yet."""
        return len(self._batcher)

    @property
    def decoded_bytes(self) -> int:
        return self._budget.used

    async def accept(self, delivery: Delivery) -> None:
        """Take a delivery in; returns once its events are waiting for a batch."""
        size = len(delivery.body)
        if not self._budget.try_take(size):
            await self._budget.take(size)
        delivery.done = self._give_back
        items = self._decoder.decode(delivery)
        self._trace(delivery, items)
        self._count(delivery, size)
        now = asyncio.get_running_loop().time()
        share = size // len(items)
        waiting = [item for item in items if not self._is_echo(item)]
        if delivery.delivery_count > self._suspect_after and waiting:
            self._batcher.add_alone(waiting)
        else:
            for item in waiting:
                self._batcher.add(item, share, now)
        if not waiting:
            await delivery.acks.flush()
        self._wake(now)

    async def lane(self) -> None:
        """Run batches one after another until `drain` has emptied everything."""
        while (closed := await self._next()) is not None:
            try:
                await self._run(closed)
            finally:
                self.running -= len(closed.items)

    def drain(self) -> None:
        """No more deliveries will come: lanes finish what is here and return."""
        self._batcher.flushing = True
        while self._idle:
            self._wake_one()

    def _is_echo(self, item: Item) -> bool:
        """Whether it is an event that we published ourselves; it is settled then."""
        if item.event is None or item.event.type not in self._echoes:
            return False
        if item.trace is not None:
            self._tracing.settle(item.trace)
        item.delivery.settle()
        return True

    def _count(self, delivery: Delivery, size: int) -> None:
        self._metrics.received.inc()
        self._metrics.decoded_bytes.inc(size)
        if delivery.delivery_count:
            self._metrics.redelivered.inc()

    def _give_back(self, delivery: Delivery) -> None:
        self._budget.give_back(len(delivery.body))

    def _trace(self, delivery: Delivery, items: list[Item]) -> None:
        message = delivery.trace = self._tracing.message(
            self._queue,
            received_ns=delivery.received_ns,
            traceparent=_context(delivery, items, "traceparent"),
            tracestate=_context(delivery, items, "tracestate"),
            message_id=delivery.message_id,
            body_size=len(delivery.body),
            events=len(items),
            delivery_count=delivery.delivery_count,
        )
        if len(items) == 1:
            items[0].trace = message
            return
        for item in items:
            event = item.event
            if event is None or event.traceparent is None:
                item.trace = message
            else:
                item.trace = self._tracing.event(
                    message, traceparent=event.traceparent, tracestate=event.tracestate, message_id=event.id
                )

    async def _next(self) -> Closed[Item] | None:
        loop = asyncio.get_running_loop()
        while True:
            closed = self._batcher.take(loop.time(), in_flight=self.running > 0)
            if closed is not None and not (closed := _without_stale(closed)).items:
                continue
            if closed is not None:
                self.running += len(closed.items)
                self._wake(loop.time())
                self._metrics.wait.observe((time.time_ns() - closed.items[0].delivery.received_ns) / 1e9)
                return closed
            if self._batcher.flushing:
                return None
            turn: asyncio.Future[None] = loop.create_future()
            self._idle.append(turn)
            self._wake(loop.time())  # the alarm must ring for what came while no lane was idle
            await turn

    def _wake(self, now: float) -> None:
        """Wake a lane if a batch is due, else set the alarm for when one will be."""
        if not self._idle:
            return
        due = self._batcher.due_in(now, in_flight=self.running > 0)
        if due == 0.0:
            self._wake_one()
        elif due is not None:
            self._set_alarm(now + due)

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            if abs(self._alarm.when() - when) < _TICK:
                return
            self._alarm.cancel()  # a lane has begun or ended meanwhile
        self._alarm = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        # A timer may fire a clock tick early; then this sets the alarm again.
        self._wake(asyncio.get_running_loop().time())

    def _wake_one(self) -> None:
        while self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def _without_stale(closed: Closed[Item]) -> Closed[Item]:
    """Without what came over a channel that is gone: the broker delivers all of that again."""
    if not any(item.delivery.acks.closed for item in closed.items):
        return closed
    current = []
    for item in closed.items:
        if item.delivery.acks.closed:
            item.delivery.settle()  # gives its bytes back; nothing is acknowledged
        else:
            current.append(item)
    return Closed(current, closed.trigger)


def _context(delivery: Delivery, items: list[Item], name: str) -> str | None:
    """Trace context: the AMQP header, else (for a single event) the CloudEvents attribute."""
    value = delivery.headers.get(name)
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    if isinstance(value, str):
        return value
    event = items[0].event
    return getattr(event, name) if event is not None and len(items) == 1 else None
