"""Between the edge and the pipeline: decode, keep within bounds, batch, run the lanes.

Taking a delivery in is synchronous: it costs no task and never waits. What there is no room for yet
waits undecoded, in the order of delivery, until lanes have taken or settled something. Room is counted
twice: in bytes of bodies that are decoded and not settled, and in events that are decoded and in no lane
(a decoded event takes several times the memory of its bytes, and more than the lanes' next batches need
not be ready). All bodies, undecoded ones too, count against the budget of the process. Lanes pull: each
runs one batch at a time, so `policy.lanes` transactions are in flight at most, and `policy.spare` more while
the process's other queues rest.

A message that was delivered suspiciously often is not even decoded here: a lane takes it as it is, to be
tried alone in the process (streams/suspects.py).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from schemas.contract import BatchPolicy
from streams.acks import AckTracker
from streams.batcher import Batcher, Closed
from streams.budget import Budget
from streams.delivery import Delivery, Item
from streams.pipeline import More
from streams.reader import Reader
from streams.seats import Seats
from streams.telemetry import QueueMetrics

_TICK: Final = 0.0005  # seconds; a difference that is not worth setting an alarm anew
_SLICE: Final = 100  # events that are decoded in a row, about a millisecond


class Runner(Protocol):
    """What lanes run: returns when every event has settled, never raises for what an event or a server
    did."""

    async def run(self, closed: Closed[Item], more: More) -> None: ...

    async def run_suspect(self, delivery: Delivery, read: Callable[[Delivery], list[Item]]) -> None: ...


class Intake:
    """Takes deliveries of one queue and hands batches to the pipeline.

    Args:
        budget, seats: of the process.
        max_bytes: of bodies that are decoded and not settled; a larger message is let in alone.
        suspect_after: a message delivered more often than this before is tried alone.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        reader: Reader,
        runner: Runner,
        budget: Budget,
        seats: Seats,
        metrics: QueueMetrics,
        *,
        max_bytes: int,
        suspect_after: int,
    ) -> None:
        self._reader = reader
        self._runner = runner
        self._budget = budget
        self._seats = seats
        self._seats.watch(self._wake)
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._lanes = policy.lanes
        self._busy = 0  # lanes that run a batch
        self._max_ahead = policy.size * policy.lanes  # a batch for each is ready when it can begin
        self._suspect_after = suspect_after
        self._acks: AckTracker | None = None
        self._undecoded: deque[Delivery] = deque()
        self._suspects: deque[Delivery] = deque()
        self._refilling = False
        self._flush_is_due = False
        self._flushes: set[asyncio.Task[None]] = set()
        self._batcher: Batcher[Item] = Batcher(policy)
        self._idle: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        self.running = 0
        """Events in lanes now."""
        self.received = 0
        """Messages taken in so far."""
        self.received_bytes = 0
        """Bytes of their bodies."""
        self.decoded_bytes = 0
        """Bytes of the bodies that are decoded and not settled."""
        self._decoded_bytes = 0
        self._told = (0, 0)

    def tell_metrics(self) -> None:
        """Count what came since the last call: a counter's lock for each message would cost a microsecond."""
        received, decoded = self.received, self._decoded_bytes
        self._metrics.received.inc(received - self._told[0])
        self._metrics.decoded_bytes.inc(decoded - self._told[1])
        self._told = received, decoded

    @property
    def waiting(self) -> int:
        """Events that are decoded and in no lane yet."""
        return len(self._batcher)

    @property
    def undecoded(self) -> int:
        """Messages that wait for room, or to be tried alone."""
        return len(self._undecoded) + len(self._suspects)

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery in; it is decoded now if there is room, else when there is."""
        acks, size = delivery.acks, len(delivery.body)
        if acks.closed:
            return  # its channel was closed while it was under way: it is delivered again
        self.received += 1
        self.received_bytes += size
        if delivery.delivery_count:
            self._metrics.redelivered.inc()
        if acks is not self._acks:
            self._acks = acks
            self.forget_stale()
        self._budget.take(size)
        if delivery.delivery_count > self._suspect_after:
            self._suspects.append(delivery)
            self._wake()
        elif self._undecoded or not self._has_room(delivery):
            self._undecoded.append(delivery)
            self._refill_soon()
        else:
            self._decode(delivery)
            self._wake()

    async def lane(self) -> None:
        """Run batches one after another until `drain` has emptied everything."""
        while (work := await self._next()) is not None:
            self._busy += 1
            self._seats.take()
            try:
                if isinstance(work, Delivery):
                    await self._run_suspect(work)
                else:
                    await self._run(work)
            finally:
                self._busy -= 1
                self._seats.leave()

    async def _run(self, closed: Closed[Item]) -> None:
        self.running += len(closed.items)
        self.tell_metrics()
        self._wake()
        self._metrics.wait.observe((time.time_ns() - closed.items[0].delivery.received_ns) / 1e9)
        try:
            await self._runner.run(closed, partial(self._more, closed))
        finally:
            self.running -= len(closed.items)

    async def _run_suspect(self, delivery: Delivery) -> None:
        self.running += 1
        self._admit(delivery)
        try:
            await self._runner.run_suspect(delivery, self._reader.read)
        finally:
            self.running -= 1

    def _more(self, closed: Closed[Item]) -> list[Item]:
        """The next batch out of turn, as a part of one that cannot go on without."""
        following = self._batcher.take(math.inf)
        if following is None:
            return []
        items = _without_stale(following).items
        closed.items.extend(items)
        self.running += len(items)
        self._refill_soon()
        return items

    def drain(self) -> None:
        """No more deliveries will come: lanes finish what is here and return."""
        self._batcher.flushing = True
        while self._idle:
            self._wake_one()

    @property
    def _is_drained(self) -> bool:
        return self._batcher.flushing and not self._batcher and not self.undecoded

    def _has_room(self, delivery: Delivery) -> bool:
        if self.decoded_bytes == 0:
            return True
        if self.decoded_bytes + len(delivery.body) > self._max_bytes:
            return False
        return len(self._batcher) < self._max_ahead

    def _admit(self, delivery: Delivery) -> None:
        """The delivery's body takes room from now on, until its last event settles."""
        size = len(delivery.body)
        self.decoded_bytes += size
        self._decoded_bytes += size
        delivery.done = self._give_back

    def _decode(self, delivery: Delivery) -> None:
        """The delivery's events wait for a batch now; what we published ourselves is done already."""
        self._admit(delivery)
        if items := self._reader.read(delivery):
            share, now = len(delivery.body) // len(items), asyncio.get_running_loop().time()
            for item in items:
                self._batcher.add(item, share, now)
        else:
            self._flush_soon()

    def _give_back(self, delivery: Delivery) -> None:
        self.decoded_bytes -= len(delivery.body)
        self._budget.give(len(delivery.body))
        self._refill_soon()

    def _refill_soon(self) -> None:
        """Decode what there is room for once the caller, who may be settling a batch, is through."""
        if self._undecoded and not self._refilling:
            self._refilling = True
            asyncio.get_running_loop().call_soon(self._refill)

    def _refill(self) -> None:
        """Decode a slice of what there is room for, and the rest once the loop has been round: a lane whose
        statement was answered meanwhile goes first, so that PostgreSQL does not wait for our decoding."""
        self._refilling = False
        enough = len(self._batcher) + _SLICE
        while self._undecoded and self._has_room(self._undecoded[0]):
            if len(self._batcher) >= enough:
                self._refill_soon()
                break
            self._decode(self._undecoded.popleft())
        self._wake()

    @property
    def front(self) -> tuple[AckTracker, int] | None:
        """The oldest message that is not acknowledged, if any: it changes while there is progress."""
        acks = self._acks
        return None if acks is None or acks.closed or acks.oldest is None else (acks, acks.oldest)

    def disown(self) -> None:
        """Forget what is held in no lane, and acknowledge nothing more of what came over this channel."""
        if self._acks is not None:
            self._acks.closed = True
        self.forget_stale()

    def forget_stale(self) -> None:
        """What came over a channel that is gone is delivered again: it need not wait here."""
        self._undecoded = self._current(self._undecoded)
        self._suspects = self._current(self._suspects)
        for item in self._batcher.remove(lambda item: item.delivery.acks.closed):
            item.delivery.settle()  # gives its bytes back; nothing is acknowledged

    def _current(self, waiting: deque[Delivery]) -> deque[Delivery]:
        self._budget.give(sum(len(delivery.body) for delivery in waiting if delivery.acks.closed))
        return deque(delivery for delivery in waiting if not delivery.acks.closed)

    def _flush_soon(self) -> None:
        """Acknowledge what is done without a batch: no lane will."""
        if not self._flush_is_due:
            self._flush_is_due = True
            task = asyncio.get_running_loop().create_task(self._flush())
            self._flushes.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._flushes.discard)

    async def _flush(self) -> None:
        self._flush_is_due = False
        if self._acks is not None:
            await self._acks.flush()

    async def _next(self) -> Closed[Item] | Delivery | None:
        loop = asyncio.get_running_loop()
        while True:
            if self._suspects:
                # In no order: where every trial kills, its deaths must not gather at whoever is first.
                self._suspects.rotate(random.randrange(len(self._suspects)))
                return self._suspects.popleft()
            closed = self._take(loop.time())
            self._refill_soon()
            if closed is not None and not (closed := _without_stale(closed)).items:
                continue
            if closed is not None:
                return closed
            if self._is_drained:
                self._wake_one()  # so that the next one sees it, too, and returns
                return None
            turn: asyncio.Future[None] = loop.create_future()
            self._idle.append(turn)
            self._wake()  # the alarm must ring for what came while no lane was idle
            await turn

    @property
    def _may_begin(self) -> bool:
        return self._busy < self._lanes or self._seats.is_alone(self._busy)

    def _take(self, now: float) -> Closed[Item] | None:
        return self._batcher.take(now, in_flight=self.running > 0) if self._may_begin else None

    def _wake(self) -> None:
        """Wake a lane if a batch is due and may begin, else set the alarm for when one will be."""
        if not self._idle:
            return
        now = asyncio.get_running_loop().time()
        due = self._batcher.due_in(now, in_flight=self.running > 0) if self._may_begin else None
        if due == 0.0 or self._suspects or self._is_drained:
            self._wake_one()
        elif due is not None:
            self._set_alarm(now + due)

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            if abs(self._alarm_at - when) < _TICK:
                return
            self._alarm.cancel()  # a lane has begun or ended meanwhile
        # The time is kept here: uvloop's handle of what is due at once has no `when`.
        self._alarm, self._alarm_at = asyncio.get_running_loop().call_at(when, self._ring), when

    def _ring(self) -> None:
        self._alarm = None
        # A timer may fire a clock tick early; then this sets the alarm again.
        self._wake()

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
