"""A producer that costs next to nothing: frames of a message in one piece, confirms counted.

Just enough of AMQP 0-9-1 to publish persistent, mandatory, confirmed messages at broker speed, so that
filling a queue takes seconds and an open loop's generator leaves the processors to those that are measured.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from pamqp import commands, frame, header

from schemas.errors import StreamsError
from streams.bench.story import Message

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_BASIC: Final = 60
_RETURN, _ACK, _NACK = 50, 80, 120
_END: Final = b"\xce"
_FRAME: Final = struct.Struct(">BHI")
_CHUNK: Final = 256 * 1024
_FLAGS: Final = 0x8000 | 0x2000 | 0x1000  # content type, headers, delivery mode
_TRACEPARENT: Final = b"\x0btraceparentS"


class BrokerRefused(StreamsError):
    """The broker did not take a message, or closed the channel."""


def encode(message: Message, frame_max: int) -> bytes:
    """All frames of one publish on channel 1: persistent and mandatory."""
    body = message.body
    trace = message.traceparent.encode()
    table = _TRACEPARENT + struct.pack(">I", len(trace)) + trace
    content_type = message.content_type.encode()
    properties = (
        struct.pack(">HHQHB", _BASIC, 0, len(body), _FLAGS, len(content_type))
        + content_type
        + struct.pack(">I", len(table))
        + table
        + b"\x02"
    )
    parts = [
        _publish(message.exchange, message.routing_key),
        _FRAME.pack(_HEADER, 1, len(properties)),
        properties,
        _END,
    ]
    room = frame_max - 8
    for start in range(0, len(body), room):
        piece = body[start : start + room]
        parts += (_FRAME.pack(_BODY, 1, len(piece)), piece, _END)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _publish(exchange: str, routing_key: str) -> bytes:
    mandatory = b"\x01"
    names = b"".join(bytes([len(name)]) + name.encode() for name in (exchange, routing_key))
    arguments = struct.pack(">HHH", _BASIC, 40, 0) + names + mandatory
    return _FRAME.pack(_METHOD, 1, len(arguments)) + arguments + _END


class Producer:
    """One connection with one confirming channel. Blocks: use a thread or a process of its own.

    Args:
        url: amqp://
        window: messages that may be unconfirmed.
    """

    def __init__(self, url: str, window: int = 20_000) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "localhost", parts.port or 5672
        self._user, self._password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self._vhost = unquote(parts.path[1:]) or "/"
        self._window = window
        self._received = bytearray()
        self._early: set[int] = set()
        self.frame_max = 131_072
        self.sent = 0
        self.confirmed = 0
        """All messages up to this one, in the order of sending, are confirmed."""

    def __enter__(self) -> Self:
        self.socket = socket.create_connection((self._host, self._port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(header.ProtocolHeader(0, 9, 1).marshal())
        self._expect("Connection.Start")
        plain = f"\0{self._user}\0{self._password}"
        self._call(commands.Connection.StartOk({}, "PLAIN", plain, "en_US"), "Connection.Tune", 0)
        self._send(commands.Connection.TuneOk(1, self.frame_max, 0), 0)
        self._call(commands.Connection.Open(self._vhost), "Connection.OpenOk", 0)
        self._call(commands.Channel.Open(), "Channel.OpenOk", 1)
        self._call(commands.Confirm.Select(), "Confirm.SelectOk", 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def publish_all(self, messages: Iterator[Message]) -> None:
        """Send everything and wait until all of it is confirmed.

        Raises:
            BrokerRefused: a message was returned or refused.
        """
        waiting, size = [], 0
        for message in messages:
            data = encode(message, self.frame_max)
            waiting.append(data)
            size += len(data)
            self.sent += 1
            if size >= _CHUNK:
                self.socket.sendall(b"".join(waiting))
                waiting, size = [], 0
                self._take_confirms(self._window)
        self.socket.sendall(b"".join(waiting))
        self._take_confirms(0)

    def send(self, messages: Iterable[Message]) -> None:
        """Send now, and read what confirms have come; waits only when the window is full.

        Raises:
            BrokerRefused: a message was returned or refused.
        """
        data = [encode(message, self.frame_max) for message in messages]
        self.sent += len(data)
        self.socket.sendall(b"".join(data))
        self._take_confirms(self._window)

    def flush(self) -> None:
        """Wait until all is confirmed."""
        self._take_confirms(0)

    def _take_confirms(self, left: int) -> None:
        """Read what has come; wait until at most `left` messages are unconfirmed."""
        while True:
            for kind, payload in self._frames():
                self._take(kind, payload)
            if self.sent - self.confirmed <= left and not select.select((self.socket,), (), (), 0)[0]:
                return
            data = self.socket.recv(65_536)
            if not data:
                raise BrokerRefused("the broker closed the connection")
            self._received += data

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        received, place = self._received, 0
        try:
            while len(received) - place >= _FRAME.size:
                kind, _, length = _FRAME.unpack_from(received, place)
                begin = place + _FRAME.size
                if len(received) <= begin + length:
                    return
                place = begin + length + 1
                yield kind, bytes(received[begin : begin + length])
        finally:
            del received[:place]

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == _HEARTBEAT:
            return
        class_, method = struct.unpack_from(">HH", payload)
        if kind != _METHOD or class_ != _BASIC or method != _ACK:
            what = "returned a message" if (class_, method) == (_BASIC, _RETURN) else "refused a message"
            raise BrokerRefused(f"the broker {what} ({class_}.{method}: {payload[4:200]!r})")
        tag, multiple = struct.unpack_from(">QB", payload, 4)
        self.on_confirm(tag, multiple=bool(multiple))

    def on_confirm(self, tag: int, *, multiple: bool) -> None:
        if multiple:
            self.confirmed = max(self.confirmed, tag)
            self._early = {early for early in self._early if early > tag}
        else:
            self._early.add(tag)
        while self.confirmed + 1 in self._early:
            self.confirmed += 1
            self._early.discard(self.confirmed)

    def _send(self, method: Any, channel: int) -> None:
        self.socket.sendall(frame.marshal(method, channel))

    def _call(self, method: Any, answer: str, channel: int) -> None:
        self._send(method, channel)
        self._expect(answer)

    def _expect(self, name: str) -> None:
        while True:
            for _, payload in self._frames():
                whole = _FRAME.pack(_METHOD, 0, len(payload)) + payload + _END
                got = frame.unmarshal(whole)[2]
                if got.name != name:
                    raise BrokerRefused(f"the broker said {got.name} instead of {name}")
                if isinstance(got, commands.Connection.Tune):
                    self.frame_max = min(self.frame_max, got.frame_max or self.frame_max)
                return
            data = self.socket.recv(65_536)
            if not data:
                raise BrokerRefused("the broker closed the connection: wrong password or virtual host?")
            self._received += data
