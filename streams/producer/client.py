"""The producer that services use: typed events in, confirmed messages out, bounded memory in between."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self, Unpack

from opentelemetry.trace import TracerProvider

from schemas.envelope import Data, Event
from schemas.errors import ConfigurationError, InvalidEvent
from streams.producer.address import Address
from streams.producer.batching import Batching, Gatherer
from streams.producer.courier import Courier
from streams.producer.errors import Full, NotConfirmed, ProducerClosed
from streams.producer.events import FAMILIES, Attributes, Catalogue, encode
from streams.producer.failures import Failures
from streams.producer.message import Message, Packer, Parcel, Route
from streams.producer.room import Room
from streams.producer.stats import Counters, Statistics
from streams.producer.tracing import Tracing, current_context, end

log = logging.getLogger("streams.producer")

_MAX_ROUTES: Final = 1000
_GOODBYE_SECONDS: Final = 3.0


class Producer:
    """Publishes events: persistent, mandatory, confirmed, with the caller's trace context.

        async with Producer(url, source="my-service") as producer:
            event = await producer.send("task.created", {"task_id": uuid7(), "kind": "research"})

    Use it from one event loop. Delivery is at least once: what has an unknown outcome is sent again, the
    same bytes under the same id, and the service de-duplicates. The order of events is *not* kept (a
    repeat comes later than its successors); the service goes by their `time`.

    Args:
        url: amqp:// or amqps://, which is verified; see `Address.parse` for its options.
        source: the CloudEvents source of the events that it makes: the name of your service.
        wait: seconds within which an event is confirmed, or `send` raises. They cover a broker that is
            away, blocked or full, and the wait for room.
        close_wait: seconds that closing may spend on what is still in flight.
        batching: let events of one type travel together; None: each is a message of its own.
        max_in_flight: events that it holds unconfirmed at most; more wait in `send` and `enqueue`.
        max_in_flight_bytes: the same, in bytes of JSON. Python's objects weigh several times that.
        max_event_bytes: a larger event is refused; the service quarantines what is above its own limit.
        families: Event classes, or unions of them, that may be sent by type or data.
        name: shows as the connection's name in RabbitMQ's management; the source if not given.
        ssl_context: for amqps://, instead of what the URL says of certificates.
        tracer_provider: instead of OpenTelemetry's global one.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        wait: float = 30.0,
        close_wait: float = 10.0,
        batching: Batching | None = None,
        max_in_flight: int = 10_000,
        max_in_flight_bytes: int = 32 * 1024 * 1024,
        max_event_bytes: int = 1024 * 1024,
        families: Sequence[object] = FAMILIES,
        name: str | None = None,
        ssl_context: SSLContext | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        if not 1 <= len(source.encode()) <= 255:
            raise ConfigurationError("a producer's source is 1 to 255 bytes long: the name of your service")
        if wait <= 0 or close_wait < 0 or max_in_flight < 1 or max_in_flight_bytes < 1 or max_event_bytes < 1:
            raise ConfigurationError("a producer's bounds must be positive")
        self._address = Address.parse(url, ssl_context)
        self._name = name or f"{source} ({os.getpid()})"
        self._wait = wait
        self._close_wait = close_wait
        self._batching = batching
        self._max_event_bytes = max_event_bytes
        self._catalogue = Catalogue(families, source)
        self._packer = Packer(Tracing(self._address.host, self._address.port, tracer_provider))
        self._room = Room(max_in_flight, max_in_flight_bytes)
        self._counters = Counters()
        self._routes: dict[tuple[str, str, str], Route] = {}
        self._bodies: dict[tuple[str, str], bytes] = {}
        self._failures = Failures()
        self._courier: Courier | None = None
        self._gatherer: Gatherer | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except NotConfirmed as unconfirmed:
            if error is None:
                raise
            log.error("closed with unconfirmed events: %s", unconfirmed)

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerRefused: the credentials, the virtual host or the certificate are wrong.
            NotConfirmed: the broker cannot be reached within `wait` seconds.
        """
        if self._courier is not None:
            raise RuntimeError("this producer was started before; make a new one")
        courier = Courier(self._address, self._name, self._wait, self._counters, self._settle)
        self._loop = asyncio.get_running_loop()
        if self._batching is not None:
            self._gatherer = Gatherer(self._batching, self._send_batch)
        self._courier = courier
        await courier.start()

    async def close(self) -> None:
        """Send and confirm what is in flight, within `close_wait` seconds, then disconnect.

        Raises:
            NotConfirmed: names the events that are not confirmed, as in `flush`.
        """
        if self._closed:
            return
        self._closed = True
        courier = self._courier
        if courier is None:
            return
        try:
            await self._settled(self._close_wait)
        finally:
            answers = not courier.unsettled
            courier.give_up(closing=True)
            await courier.stop(_GOODBYE_SECONDS if answers else 0)
        self._failures.tell()

    def make(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> Event:
        """The event that `send` would send, from the same arguments; nothing is sent."""
        return self._catalogue.make(what, data, **attributes)

    async def send(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> Event:
        """Send one event; return it once the broker has confirmed that it is stored in its queues.

            await producer.send(TaskCreated(id=..., source=..., time=..., data=...))   # an event
            await producer.send(CreatedData(task_id=uuid7(), kind="research"))         # its data
            await producer.send("task.created", {"task_id": uuid7(), "kind": "research"})

        Id (a UUIDv7), source and time are filled in where they are missing. Call it concurrently for
        speed: one call after the other costs a round trip each. Cancelling it does not unsend the event.

        Raises:
            EventError: the event breaks the contract; `field` names the culprit. Nothing was sent.
            NotConfirmed: not confirmed within `wait` seconds, or refused; see streams.producer.errors.
        """
        event = self._catalogue.make(what, data, **attributes)
        future = await self._enqueue(event)
        try:
            return await future
        except NotConfirmed as error:
            self._failures.told(error)
            raise

    async def enqueue(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> asyncio.Future[Event]:
        """As `send`, but return as soon as there is room; the future is done when `send` would return.

        A failure that nobody asks the future for is raised by `flush` and `close`.
        """
        return await self._enqueue(self._catalogue.make(what, data, **attributes))

    def send_nowait(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> asyncio.Future[Event]:
        """As `enqueue`, without waiting for room.

        Raises:
            Full: there is none.
        """
        event = self._catalogue.make(what, data, **attributes)
        self._check_open(event)
        body = encode(event, self._max_event_bytes)
        if not self._room.try_take(len(body)):
            raise Full(f"{self._room.events} events with {self._room.bytes} bytes are in flight")
        return self._accept(event, body, self._loop.time())

    async def flush(self) -> None:
        """Wait until everything that was accepted so far is confirmed or has failed.

        Raises:
            NotConfirmed: names every event that failed since the last flush, except where `send` raised.
        """
        await self._settled(None)
        self._failures.tell()

    @property
    def statistics(self) -> Statistics:
        """What it has done so far, and what it is doing."""
        counters = self._counters
        return Statistics(
            accepted=counters.accepted,
            confirmed=counters.confirmed,
            failed=counters.failed,
            retried=counters.retried,
            messages=counters.messages,
            in_flight=self._room.events,
            in_flight_bytes=self._room.bytes,
            waiting_callers=self._room.waiting,
            reconnects=counters.reconnects,
            state="closed" if self._closed or self._courier is None else self._courier.state,
            latency_p50=counters.quantile(0.5),
            latency_p99=counters.quantile(0.99),
        )

    async def _enqueue(self, event: Event) -> asyncio.Future[Event]:
        self._check_open(event)
        body = encode(event, self._max_event_bytes)
        started = self._loop.time()
        if not self._room.try_take(len(body)):
            await self._take_room(event, len(body))
        return self._accept(event, body, started)

    async def _take_room(self, event: Event, size: int) -> None:
        try:
            async with asyncio.timeout(self._wait):
                await self._room.take(size)
        except TimeoutError:
            assert self._courier is not None
            raise NotConfirmed(
                f"no room within {self._wait:g} s: {self._room.events} events are in flight "
                f"({self._courier.state}); it was never sent",
                [event],
            ) from None
        if self._closed:
            self._room.give_back(1, size)
            self._check_open(event)

    def _check_open(self, event: Event) -> None:
        if self._closed:
            raise ProducerClosed("the producer is closed", [event])
        if self._courier is None:
            raise RuntimeError("the producer is not started: use `async with`, or `start`")

    def _accept(self, event: Event, body: bytes, started: float) -> asyncio.Future[Event]:
        """Room is taken for it."""
        key = (event.source, event.id)
        other = self._bodies.setdefault(key, body)
        if other is not body and other != body:
            self._room.give_back(1, len(body))
            raise InvalidEvent("is in flight with other content: an id names one event", field="id")
        try:
            route = self._route(event)
        except InvalidEvent:
            self._bodies.pop(key, None)
            self._room.give_back(1, len(body))
            raise
        self._counters.accepted += 1
        parcel = Parcel(event, body, route, self._loop.create_future())
        if self._gatherer is None:
            self._submit(self._packer.single(parcel, started))
        else:
            parcel.caller = current_context()
            self._gatherer.add(parcel, started)
        return parcel.future

    def _route(self, event: Event) -> Route:
        key = (event.exchange, event.type, event.source)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            route = self._routes[key] = Route(event)
        return route

    def _send_batch(self, parcels: Sequence[Parcel], started: float) -> None:
        self._submit(self._packer.batch(parcels, started))

    def _submit(self, message: Message) -> None:
        self._counters.messages += 1
        assert self._courier is not None
        self._courier.submit(message)

    def _settle(self, message: Message, error: NotConfirmed | None) -> None:
        size = 0
        for parcel in message.parcels:
            event, future = parcel.event, parcel.future
            size += len(parcel.body)
            self._bodies.pop((event.source, event.id), None)
            if error is not None:
                self._fail(future, type(error)(error.reason, [event], maybe_sent=error.maybe_sent))
            elif not future.done():  # its caller may have been cancelled
                future.set_result(event)
        count, counters = len(message.parcels), self._counters
        if error is None:
            counters.confirmed += count
            counters.latencies.append(self._loop.time() - message.started)
        else:
            counters.failed += count
        end(message.span, error)
        if message.done is not None and not message.done.done():
            message.done.set_result(None)
        self._room.give_back(count, size)

    def _fail(self, future: asyncio.Future[Event], error: NotConfirmed) -> None:
        self._failures.add(error)
        if not future.done():
            future.set_exception(error)
            future.exception()  # nobody has to ask: flush and close report it

    async def _settled(self, timeout: float | None) -> None:
        assert self._courier is not None
        if self._gatherer is not None:
            self._gatherer.flush()
        waits = []
        for message in self._courier.unsettled:
            if message.done is None:
                message.done = self._loop.create_future()
            waits.append(message.done)
        if waits:
            await asyncio.wait(waits, timeout=timeout)
