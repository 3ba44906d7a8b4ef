"""A tap on the consumer's connection: deliveries are taken out of the received bytes, all else goes on.

aiormq reads every frame with three awaits under a lock, makes objects of it, puts it through two queues and
starts a task for each delivery: 60 µs. The tap sits between the transport and aiormq. It parses the
deliveries of the consumers that registered with it straight from each received chunk and hands every other
frame on, byte for byte; so connecting, channels, heartbeats, flow control, cancelling and reconnecting
stay the library's. `STREAMS_TAP=0` does without it.

What must not go wrong here:

- An acknowledgement belongs to one incarnation of one channel: the broker closes a connection for a tag
  that it does not know, and would take it for another message's if it knew it by chance. So each
  Channel.Open-Ok begins a new `Channel`, and whatever closes the old one, from either side, silences it.
- aiormq takes a connection on which it sees no frame for a while to be dead. It does not see deliveries,
  so it is handed a heartbeat now and then while they flow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, cast

import structlog
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from streams import frames
from streams.acks import AckTracker
from streams.amqp import Connection
from streams.delivery import Delivery
from streams.frames import PREFIX, Deliver

log = structlog.get_logger(__name__)

Accept = Callable[[Delivery], None]

_LIMIT: Final = 64 * 1024  # of aiormq's reader; what is tapped never gets there
_HEARTBEAT_SECONDS: Final = 1.0


class Channel:
    """One incarnation of a channel, from its opening to its end."""

    __slots__ = ("_transport", "acks", "deliver", "header", "missing", "number", "parts")

    def __init__(self, number: int, transport: asyncio.WriteTransport) -> None:
        self.number = number
        self._transport = transport
        self.acks = AckTracker(self._acknowledge)
        self.deliver: Deliver | None = None
        """A delivery whose content is still coming in."""
        self.header = b""
        self.missing = 0
        """Bytes of its body that are."""
        self.parts: list[bytes] = []

    async def _acknowledge(self, tag: int) -> None:
        """`basic.ack(multiple)`; nothing happens once the channel is gone, for the broker delivers again."""
        if not self.acks.closed and not self._transport.is_closing():
            self._transport.write(frames.ack_frame(self.number, tag))


class Tap(asyncio.StreamReaderProtocol):
    """The protocol of one connection."""

    def __init__(self, reader: asyncio.StreamReader, consumers: dict[bytes, Accept]) -> None:
        super().__init__(reader)
        self._consumers = consumers
        self._wire: asyncio.Transport | None = None
        self._channels: dict[int, Channel] = {}
        self._rest = b""
        self._told = 0.0
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)  # uvloop registers its own classes with nobody

    def connection_lost(self, exc: Exception | None) -> None:
        for number in list(self._channels):
            self._end(number)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take deliveries out of a chunk; hand the other frames on in their order."""
        if self._rest:
            data = self._rest + data
        size = len(data)
        at = others = 0  # `others`: where the frames begin that are to be handed on
        while size - at >= PREFIX:
            kind, number, length = frames.frame_at(data, at)
            end = at + frames.OVERHEAD + length
            if end > size:
                break
            if self._takes(kind, number, data, at + PREFIX, end - 1):
                if others < at:
                    super().data_received(data[others:at])
                others = end
            at = end
        if others < at:
            super().data_received(data[others:at])
        elif at:
            self._heartbeat()
        self._rest = data[at:] if at else data
        if self._held and self._wire is not None:
            self._wire.pause_reading()  # aiormq's reader may have resumed it

    def _takes(self, kind: int, number: int, data: bytes, at: int, end: int) -> bool:
        """Whether a frame is a part of a delivery that was asked for; its payload is data[at:end]."""
        channel = self._channels.get(number)
        if kind == frames.METHOD:
            method = data[at : at + 4]
            if channel is not None and method == frames.DELIVER:
                deliver = frames.deliver_at(data, at + 4)
                if deliver.consumer in self._consumers:
                    channel.deliver = deliver
                    return True
            elif method == frames.CHANNEL_OPEN_OK:
                self._begin(number)
            elif method in (frames.CHANNEL_CLOSE, frames.CHANNEL_CLOSE_OK):
                self._end(number)
            return False
        if channel is None or channel.deliver is None:
            return False
        if kind == frames.HEADER:
            channel.header = data[at:end]
            channel.missing = frames.body_size_at(data, at)[0]
            if not channel.missing:
                self._emit(channel, b"")
        else:
            channel.missing -= end - at
            if channel.missing:
                channel.parts.append(data[at:end])
            elif channel.parts:
                self._emit(channel, b"".join((*channel.parts, data[at:end])))
                channel.parts = []
            else:
                self._emit(channel, data[at:end])
        return True

    def _emit(self, channel: Channel, body: bytes) -> None:
        """A delivery is complete."""
        deliver, header = channel.deliver, channel.header
        assert deliver is not None
        channel.deliver = None
        content = frames.properties_of(header)
        # On a first delivery the header is the producer's, who could have its message tried alone by it.
        count = content.headers.get("x-delivery-count", 0) if deliver.redelivered else 0
        channel.acks.received(deliver.tag)
        delivery = Delivery(
            body,
            content.content_type,
            content.headers,
            content.message_id,
            content.type,
            content.timestamp,
            content.app_id,
            deliver.exchange,
            deliver.routing_key,
            deliver.tag,
            channel.acks,
            time.time_ns(),
            count if isinstance(count, int) else 0,
            others=partial(frames.others_of, header),
        )
        try:
            self._consumers[deliver.consumer](delivery)
        except Exception:
            # A delivery that nobody settles would hold up all behind it, silently: let the broker have them.
            log.exception("a delivery could not be taken in", exchange=deliver.exchange)
            if self._wire is not None:
                self._wire.abort()

    def sent(self, data: bytes) -> None:
        """Look at what aiormq sends: a channel that it closes acknowledges nothing from that moment on. What
        is still delivered on it, until the broker has closed it, too, is taken out all the same."""
        if len(data) > PREFIX + 4 and data[PREFIX : PREFIX + 4] == frames.CHANNEL_CLOSE:
            number = frames.frame_at(data, 0)[1]
            if channel := self._channels.get(number):
                channel.acks.closed = True

    def hold(self) -> None:
        """Read nothing more from the socket; TCP then stops the broker. Heartbeats are not heard either."""
        self._held = True
        if self._wire is not None:
            self._wire.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._held = False
        if self._wire is not None:
            self._wire.resume_reading()

    def _begin(self, number: int) -> None:
        self._end(number)
        if self._wire is not None:
            self._channels[number] = Channel(number, self._wire)

    def _end(self, number: int) -> None:
        if channel := self._channels.pop(number, None):
            channel.acks.closed = True

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now - self._told > _HEARTBEAT_SECONDS:
            self._told = now
            super().data_received(frames.HEARTBEAT_FRAME)


class _Writer(asyncio.StreamWriter):
    """aiormq's writer; shows the tap what goes out."""

    def write(self, data: Any) -> None:
        protocol = self._protocol  # type: ignore[attr-defined]
        protocol.sent(data)
        super().write(data)

    def writelines(self, data: Iterable[Any]) -> None:
        for part in data:
            self.write(part)


class Taps(TransportFactory):
    """Makes the transports of one robust connection, each with a tap, and knows who consumes."""

    def __init__(self) -> None:
        self._consumers: dict[bytes, Accept] = {}
        self.current: Tap | None = None
        """The tap of the connection that was made last."""

    def register(self, consumer_tag: str, accept: Accept) -> None:
        """Hand this consumer's deliveries to `accept`, which must not block or raise; on this connection
        and on those that a reconnect makes. Register before consuming."""
        self._consumers[consumer_tag.encode()] = accept

    def forget(self, consumer_tag: str) -> None:
        """Let deliveries to a consumer that was cancelled long ago pass by. Not sooner: what was under way
        then would be acknowledged unseen, with what comes behind it."""
        self._consumers.pop(consumer_tag.encode(), None)

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, by TLS for amqps.

        Raises:
            AMQPConnectionError: as aiormq's own factories do.
        """
        provider = kwargs.pop("ssl_context_provider", None)
        context = await provider.get_context() if url.scheme == "amqps" and provider is not None else None
        assert url.host is not None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LIMIT, loop=loop)
        tap = Tap(reader, self._consumers)
        try:
            transport, _ = await loop.create_connection(
                lambda: tap, host=url.host, port=url.port or 0, ssl=context, **kwargs
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self.current = tap
        return reader, _Writer(transport, tap, reader, loop)


class TappedConnection(Connection):
    """aio-pika's robust connection, with taps."""

    def __init__(self, url: URL, *args: Any, taps: Taps, **kwargs: Any) -> None:
        super().__init__(url, *args, **kwargs)
        self.kwargs["transport_factory"] = taps
