"""One connection to the broker with one confirming channel: an asyncio protocol, no task of its own.

It knows how to log in, keep the connection alive, publish frames and read confirms. What to do when
something is refused or lost is its listener's to decide (streams.producer.courier).

    connecting ──▶ open ──▶ closed        channel: closed by the broker, opened again by itself
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol, cast

import pamqp.frame
from pamqp import base, commands, header
from pamqp.common import FieldTable
from pamqp.exceptions import PAMQPException

from streams.frames import HEADER, HEARTBEAT_FRAME, METHOD
from streams.producer.address import Address
from streams.producer.frames import ACK, CHANNEL, NACK, FrameReader, confirm

_GREETING: Final = b"AMQP\x00\x00\x09\x01"
_FRAME_MAX: Final = 128 * 1024
_SILENT_TICKS: Final = 4  # of half a heartbeat each
_OK: Final = 200


class LoginRefused(ConnectionError):
    """Wrong credentials, no such virtual host: trying again will hardly help."""


class Listener(Protocol):
    """What becomes of messages. None of these may raise."""

    def channel_opened(self, wire: Wire) -> None:
        """Publishing may begin; delivery tags start at 1. Called again after `channel_closed`."""

    def confirmed(self, tag: int, *, multiple: bool, ok: bool) -> None:
        """An ack, or (not ok) a nack."""

    def returned(self, message_id: str, reason: str) -> None:
        """No queue took a mandatory message; its ack follows."""

    def channel_closed(self, code: int, reason: str) -> None:
        """The broker closed the channel; unconfirmed messages have an unknown outcome."""

    def blocked(self, reason: str | None) -> None:
        """The broker is short of memory or disk and asks for nothing more; None: it has recovered."""

    def lost(self, error: Exception) -> None:
        """The connection is gone; unconfirmed messages have an unknown outcome. Called once, after open."""


class State(Enum):
    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


class Wire(asyncio.Protocol):
    """Made by `Wire.connect`."""

    def __init__(self, address: Address, name: str, listener: Listener) -> None:
        self._address = address
        self._name = name
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._state = State.CONNECTING
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._reason: Exception | None = None
        self._heartbeat: float = 0
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returned: str | None = None
        self._out: list[bytes] = []
        self.frame_max = _FRAME_MAX
        self._answers: dict[type[base.Frame], Callable[..., None]] = {
            commands.Connection.Start: self._on_start,
            commands.Connection.Tune: self._on_tune,
            commands.Connection.OpenOk: lambda _: self._send(commands.Channel.Open(), CHANNEL),
            commands.Channel.OpenOk: lambda _: self._send(commands.Confirm.Select(), CHANNEL),
            commands.Confirm.SelectOk: self._on_channel,
            commands.Channel.Close: self._on_channel_close,
            commands.Connection.Close: self._on_close,
            commands.Connection.CloseOk: lambda _: self.abort(ConnectionError("closed")),
            commands.Connection.Blocked: lambda frame: self._listener.blocked(
                frame.reason or "no reason given"
            ),
            commands.Connection.Unblocked: lambda _: self._listener.blocked(None),
        }

    @classmethod
    async def connect(cls, address: Address, name: str, listener: Listener, timeout: float) -> Wire:
        """Connect, log in, and open the channel.

        Raises:
            LoginRefused: see there.
            OSError, TimeoutError: the broker cannot be reached, or is none.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            _, wire = await loop.create_connection(
                lambda: cls(address, name, listener), address.host, address.port, ssl=address.tls
            )
            try:
                await wire._ready
            except BaseException:
                wire.abort(ConnectionError("given up"))
                raise
        return wire

    def publish(self, frames: bytes) -> None:
        """Send the frames of a message, together with all others of this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frames)

    async def gone(self) -> None:
        """Return when the connection is no more."""
        await asyncio.shield(self._gone)

    async def close(self, timeout: float) -> None:
        """Say goodbye, within `timeout` seconds."""
        if self._state is State.OPEN:
            self._flush()
            self._send(commands.Connection.Close(_OK, "closed by the producer", 0, 0), 0)
            await asyncio.wait([self._gone], timeout=timeout)
        self.abort(ConnectionError("closed"))

    def abort(self, error: Exception) -> None:
        """Drop the connection at once."""
        self._reason = self._reason or error
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        try:
            for kind, channel, payload in self._reader.feed(data):
                if kind == METHOD:
                    self._on_method(channel, payload)
                elif kind == HEADER:
                    self._on_returned_header(payload)
        except (ConnectionError, PAMQPException, ValueError) as error:
            self.abort(error if isinstance(error, ConnectionError) else ConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        was, self._state = self._state, State.CLOSED
        error = self._reason or exc or ConnectionError("the broker closed the connection")
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # `connect` may have given up; then nobody asks
        if not self._gone.done():
            self._gone.set_result(None)
        if was is State.OPEN:
            self._listener.lost(error)

    # What the broker says.

    def _on_method(self, channel: int, payload: bytes) -> None:
        method = int.from_bytes(payload[:4], "big")
        if method in (ACK, NACK):
            tag, multiple = confirm(payload)
            self._listener.confirmed(tag, multiple=multiple, ok=method == ACK)
            return
        frame = _decode(channel, payload)
        if isinstance(frame, commands.Basic.Return):
            self._returned = f"{frame.reply_text} (exchange {frame.exchange!r}, key {frame.routing_key!r})"
            return
        answer = self._answers.get(type(frame))
        if answer is not None:
            answer(frame)

    def _on_returned_header(self, payload: bytes) -> None:
        properties = header.ContentHeader()
        properties.unmarshal(payload)
        reason, self._returned = self._returned, None
        if reason is not None:
            self._listener.returned(str(properties.properties.message_id), reason)

    def _on_start(self, frame: commands.Connection.Start) -> None:
        mechanism = "EXTERNAL" if self._address.external else "PLAIN"
        if mechanism not in str(frame.mechanisms).split():
            raise LoginRefused(f"the broker does not offer the login {mechanism}")
        response = "" if self._address.external else f"\0{self._address.user}\0{self._address.password}"
        properties: FieldTable = {
            "product": "agent-streams producer",
            "connection_name": self._name,
            "capabilities": {
                "authentication_failure_close": True,
                "basic.nack": True,
                "connection.blocked": True,
                "publisher_confirms": True,
            },
        }
        self._send(commands.Connection.StartOk(properties, mechanism, response, "en_US"), 0)

    def _on_tune(self, frame: commands.Connection.Tune) -> None:
        self.frame_max = min(frame.frame_max or _FRAME_MAX, _FRAME_MAX)
        # The lower of both wishes, where 0 stands for "none, please".
        wishes = [wish for wish in (frame.heartbeat, self._address.heartbeat) if wish]
        heartbeat = min(wishes) if self._address.heartbeat and wishes else 0
        self._send(commands.Connection.TuneOk(frame.channel_max, self.frame_max, heartbeat), 0)
        self._send(commands.Connection.Open(self._address.virtual_host), 0)
        self._heartbeat = heartbeat / 2
        if heartbeat:
            self._timer = self._loop.call_later(self._heartbeat, self._tick)

    def _on_channel(self, _: object) -> None:
        if not self._ready.done():
            self._state = State.OPEN
            self._ready.set_result(None)
        self._listener.channel_opened(self)

    def _on_channel_close(self, frame: commands.Channel.Close) -> None:
        self._out.clear()  # what was not written belongs to the old channel
        self._send(commands.Channel.CloseOk(), CHANNEL)
        self._send(commands.Channel.Open(), CHANNEL)
        self._listener.channel_closed(frame.reply_code or 0, frame.reply_text)

    def _on_close(self, frame: commands.Connection.Close) -> None:
        self._send(commands.Connection.CloseOk(), 0)
        said = f"the broker closed the connection: {frame.reply_text}"
        self._reason = LoginRefused(said) if frame.reply_code in (403, 530) else ConnectionError(said)
        assert self._transport is not None
        self._transport.close()  # unlike abort, it sends the answer first

    # Sending.

    def _tick(self) -> None:
        """Twice in a heartbeat: show that we are there, and see that the broker is."""
        self._silent += 1
        if self._silent > _SILENT_TICKS:
            self.abort(
                ConnectionError(f"nothing heard from the broker for {self._silent * self._heartbeat:g} s")
            )
            return
        assert self._transport is not None
        self._transport.write(HEARTBEAT_FRAME)
        self._timer = self._loop.call_later(self._heartbeat, self._tick)

    def _send(self, frame: base.Frame, channel: int) -> None:
        assert self._transport is not None
        self._transport.write(pamqp.frame.marshal(frame, channel))

    def _flush(self) -> None:
        out = self._out
        if out and self._transport is not None:
            self._out = []
            self._transport.write(b"".join(out))


def _decode(channel: int, payload: bytes) -> base.Frame:
    raw = b"\x01" + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
    frame = pamqp.frame.unmarshal(raw)[2]
    assert isinstance(frame, base.Frame)
    return frame
