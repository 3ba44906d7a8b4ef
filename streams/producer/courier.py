"""Brings messages to the broker through faults: reconnects, repeats, waits, and gives up in time.

    submit ──▶ waiting ──▶ written ──▶ settled
                  ▲           │ nack: after a pause    ▲
                  └───────────┘ connection or channel  │ ack, return, refusal,
                                lost: at once          │ or too long since its start

What was written on a lost connection has an unknown outcome and is written again, the same bytes under
the same id: the service de-duplicates. When the broker closes the *channel* (no such exchange, no
permission, too large), it does not say for which message: what was unconfirmed is tried again one at a
time, which finds the culprit and sends its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from schemas.envelope import Event
from streams.producer.address import Address
from streams.producer.errors import BrokerRefused, NotConfirmed, ProducerClosed, Unroutable
from streams.producer.message import Message, Route
from streams.producer.stats import Counters
from streams.producer.wire import LoginRefused, Wire
from streams.refusal import explain

log = logging.getLogger("streams.producer")

CONNECT_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_NACK_PAUSE: Final = 0.05
_PATIENCE: Final = 5.0
_WILL_NOT_PASS: Final = (LoginRefused, ssl.SSLCertVerificationError)
_NO_PERMISSION: Final = 403  # for an exchange and a routing key
_NO_EXCHANGE: Final = 404


class Courier:
    """Keeps one connection, and every message until it is settled.

    Args:
        wait: seconds that a message may take from its start to its confirm.
        settle: told of each message once, with the error if it failed.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        wait: float,
        counters: Counters,
        settle: Callable[[Message, NotConfirmed | None], None],
    ) -> None:
        self._address = address
        self._name = name
        self._wait = wait
        self._counters = counters
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._usable = False
        """The channel is open."""
        self._blocked: str | None = None
        self._waiting: deque[Message] = deque()
        self._written: dict[int, Message] = {}
        self._pausing: set[Message] = set()
        self._last_tag = 0
        self._oldest_tag = 1
        self._suspects: set[Message] = set()
        """Were unconfirmed when the broker closed a channel; while there are any, one is sent at a time."""
        self._patience = self._first_patience = min(_PATIENCE, wait / 4)
        self._trouble: Exception | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def state(self) -> str:
        """In words, for errors and statistics."""
        if self._blocked is not None:
            return f"the broker blocks publishers: {self._blocked}"
        if self._usable:
            return "connected"
        return f"not connected to {self._address}" + (f": {_said(self._trouble)}" if self._trouble else "")

    @property
    def unsettled(self) -> list[Message]:
        return [*self._written.values(), *self._waiting, *self._pausing]

    async def start(self) -> None:
        """Connect; return once the channel is open.

        Raises:
            BrokerRefused: wrong credentials, or no such virtual host.
            NotConfirmed: the broker cannot be reached within the bound.
        """
        connected: asyncio.Future[None] = self._loop.create_future()
        self._keeper = self._loop.create_task(self._keep_connected(connected))
        try:
            await asyncio.wait_for(connected, self._wait)
        except _WILL_NOT_PASS as error:
            await self.stop(0)
            raise BrokerRefused(f"{self._address}: {_said(error)}") from None
        except TimeoutError:
            state = self.state
            await self.stop(0)
            raise NotConfirmed(f"{state}; tried for {self._wait:g} s") from self._trouble

    async def stop(self, timeout: float) -> None:
        """Close the connection; nothing is written or settled after this."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        self._usable = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close(timeout)

    def submit(self, message: Message) -> None:
        """Send a message, now or as soon as it can be."""
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_every, self._sweep)
        if self._usable and not self._waiting and self._blocked is None and not self._suspects:
            self._write(message)
        else:
            self._waiting.append(message)
            self._pump()

    # The connection.

    async def _keep_connected(self, first: asyncio.Future[None]) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = self._loop.time()
            try:
                wire = await Wire.connect(self._address, self._name, self, min(CONNECT_SECONDS, self._wait))
            except (OSError, ValueError) as error:
                self._trouble = error
                if isinstance(error, _WILL_NOT_PASS) and not first.done():
                    first.set_exception(error)
                    return
            else:
                if first.done():
                    self._counters.reconnects += 1
                    log.info("connected to the broker again")
                else:
                    first.set_result(None)
                await wire.gone()
            if self._loop.time() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE  # it had been well
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def channel_opened(self, wire: Wire) -> None:
        self._wire = wire
        self._last_tag, self._oldest_tag = 0, 1
        self._usable = True
        self._pump()

    def lost(self, error: Exception) -> None:
        self._trouble, self._wire, self._blocked = error, None, None
        unknown = self._take_back()
        self._waiting.extendleft(reversed(unknown))
        if self._keeper is not None:
            log.warning(
                "lost the broker (%s); %d messages have an unknown outcome", _said(error), len(unknown)
            )

    def blocked(self, reason: str | None) -> None:
        self._blocked = reason
        if reason is None:
            log.info("the broker takes messages again")
            self._pump()
        else:
            log.warning("the broker blocks publishers: %s", reason)

    def channel_closed(self, code: int, reason: str) -> None:
        unknown = self._take_back()
        if len(unknown) == 1:
            self._refuse(unknown[0], code, reason)
        else:
            self._suspects.update(unknown)
            self._waiting.extendleft(reversed(unknown))

    def _refuse(self, culprit: Message, code: int, reason: str) -> None:
        for message in [culprit, *(m for m in self._waiting if _alike(m.route, culprit.route, code))]:
            self._end(message, BrokerRefused(f"the broker refused: {reason}", _events(message)))
        self._waiting = deque(m for m in self._waiting if not m.settled)

    def _take_back(self) -> list[Message]:
        """What was written and is not confirmed, in its order; nothing can be written for now."""
        self._usable = False
        unknown = list(self._written.values())
        self._written.clear()
        return unknown

    # Messages.

    def _pump(self) -> None:
        while self._waiting and self._usable and self._blocked is None:
            if self._suspects and self._written:
                return  # one at a time
            self._write(self._waiting.popleft())

    def _write(self, message: Message) -> None:
        assert self._wire is not None
        self._last_tag += 1
        self._written[self._last_tag] = message
        message.written_at = self._loop.time()
        message.attempts += 1
        if message.attempts > 1:
            self._counters.retried += len(message.parcels)
        self._wire.publish(message.frames(self._wire.frame_max))

    def confirmed(self, tag: int, *, multiple: bool, ok: bool) -> None:
        for each in range(self._oldest_tag if multiple else tag, tag + 1):
            message = self._written.pop(each, None)
            if message is None:
                continue  # confirmed before, or given up
            if not ok:
                self._pause(message)
            elif message.returned is not None:
                self._end(message, Unroutable(f"no queue takes it: {message.returned}", _events(message)))
            else:
                self._end(message, None)
        if multiple:
            self._oldest_tag = tag + 1
        self._patience = self._first_patience
        if self._waiting:
            self._pump()

    def returned(self, message_id: str, reason: str) -> None:
        for message in self._written.values():  # it is among the oldest
            if message.id == message_id and message.returned is None:
                message.returned = reason
                return

    def _pause(self, message: Message) -> None:
        """The broker refused it for now, as a full queue does: again after a while."""
        message.nacks += 1
        self._suspects.discard(message)
        self._pausing.add(message)
        pause = min(_NACK_PAUSE * 2**message.nacks, _LONGEST_PAUSE) * random.uniform(0.5, 1)
        self._loop.call_later(pause, self._resume, message)

    def _resume(self, message: Message) -> None:
        if message in self._pausing:
            self._pausing.discard(message)
            self._waiting.append(message)
            self._pump()

    def _end(self, message: Message, error: NotConfirmed | None) -> None:
        message.settled = True
        self._suspects.discard(message)
        self._settle(message, error)

    # Giving up.

    @property
    def _sweep_every(self) -> float:
        return min(0.25, self._wait / 4)

    def _sweep(self) -> None:
        """Give up what has waited too long; runs only while something is under way."""
        self._sweeper = None
        now = self._loop.time()
        self.give_up(now - self._wait)
        self._check_answers(now)
        if self._written or self._waiting or self._pausing:
            self._sweeper = self._loop.call_later(self._sweep_every, self._sweep)

    def _check_answers(self, now: float) -> None:
        """Leave a connection on which nothing is confirmed any more, though the broker does not block us.

        A half-open link shows itself like this long before heartbeats find out.
        """
        oldest = next(iter(self._written.values()), None)
        if oldest is None or self._wire is None or self._blocked is not None:
            return
        if now - oldest.written_at > self._patience:
            self._wire.abort(ConnectionError(f"no confirm for {self._patience:g} s"))
            self._patience *= 2  # perhaps it is only slow: being asked again and again would not help

    def give_up(self, before: float = math.inf, *, closing: bool = False) -> None:
        """Fail every message that was started before this time."""
        late = [message for message in self.unsettled if message.started <= before]
        if not late:
            return
        for message in late:
            self._end(message, self._given_up(message, closing=closing))
        self._waiting = deque(m for m in self._waiting if not m.settled)
        self._pausing = {m for m in self._pausing if not m.settled}
        self._written = {tag: m for tag, m in self._written.items() if not m.settled}
        self._pump()

    def _given_up(self, message: Message, *, closing: bool) -> NotConfirmed:
        events, maybe = _events(message), message.attempts > 0
        kind: type[NotConfirmed] = NotConfirmed
        why = f"not confirmed within {self._wait:g} s"
        if closing:
            kind, why = ProducerClosed, "the producer was closed before the confirm"
        elif message.nacks:
            kind = BrokerRefused
        state = self.state
        if message.nacks:
            # Of several queues that should have it, some may have taken it.
            state += f"; refused {message.nacks} times (nack), as a full queue does"
        outcome = "it may have arrived: send it again under the same id" if maybe else "it was never sent"
        return kind(f"{why} ({state}); {outcome}", events, maybe_sent=maybe)


def _alike(route: Route, refused: Route, code: int) -> bool:
    """Whether the broker would refuse what takes this route for the same reason."""
    if code == _NO_EXCHANGE:
        return route.exchange == refused.exchange
    return code == _NO_PERMISSION and (route.exchange, route.routing_key) == (
        refused.exchange,
        refused.routing_key,
    )


def _events(message: Message) -> list[Event]:
    return [parcel.event for parcel in message.parcels]


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return explain(error) or str(error) or type(error).__name__
