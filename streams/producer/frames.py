"""The four frames that travel in number, to and from bytes; all others are pamqp's.

A publish is three frames: the method, the content header, the body (in parts, if it is long). pamqp and
aiormq take about 30 µs for them, mostly for generality; the method frame and nearly all properties of
our messages are constants of their exchange, type and source.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from schemas.errors import InvalidEvent
from streams.frames import BODY, END, HEADER, HEARTBEAT, METHOD, OVERHEAD

CHANNEL: Final = 1
ACK: Final = 60 << 16 | 80
NACK: Final = 60 << 16 | 120

_FRAME: Final = Struct(">BHL")
_END: Final = bytes((END,))
_PUBLISH: Final = Struct(">HHH")
_CONTENT: Final = Struct(">HHQ")
_LONG: Final = Struct(">L")
_TIMESTAMP: Final = Struct(">Q")
_CONFIRM: Final = Struct(">LQB")
_MAX_FRAME: Final = 1 << 24  # far above what was negotiated: what claims more is no AMQP

# Properties that every message has, in the order in which the protocol lists their values.
_FLAGS: Final = 1 << 15 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3
_FLAG_HEADERS: Final = 1 << 13
_PERSISTENT: Final = b"\x02"


class BrokenFrame(ConnectionError):
    """What came is no AMQP: the connection cannot be used any more."""


def short_string(text: str, field: str) -> bytes:
    """A string of up to 255 bytes, as AMQP writes it.

    Raises:
        InvalidEvent: it is longer.
    """
    raw = text.encode()
    if len(raw) > 255:
        raise InvalidEvent("must not be longer than 255 bytes", field=field)
    return bytes((len(raw),)) + raw


def publish_method(exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """The whole first frame of a message."""
    payload = (
        _PUBLISH.pack(60, 40, 0)
        + short_string(exchange, "exchange")
        + short_string(routing_key, "type")
        + (b"\x01" if mandatory else b"\x00")
    )
    return _FRAME.pack(METHOD, CHANNEL, len(payload)) + payload + _END


class Properties:
    """Property lists of messages of one content type, event type and source."""

    __slots__ = ("_head", "_tail")

    def __init__(self, content_type: str, type_: str, source: str) -> None:
        self._head = short_string(content_type, "content type")
        self._tail = short_string(type_, "type") + short_string(source, "source")

    def encode(self, message_id: str, timestamp: int, headers: bytes = b"") -> bytes:
        """Flags and values, persistent; `headers` as `header_table` gives them."""
        flags = _FLAGS | _FLAG_HEADERS if headers else _FLAGS
        identifier = message_id.encode()
        return b"".join(
            (
                flags.to_bytes(2, "big"),
                self._head,
                headers,
                _PERSISTENT,
                bytes((len(identifier),)),
                identifier,
                _TIMESTAMP.pack(timestamp),
                self._tail,
            )
        )


def header_table(values: dict[str, str]) -> bytes:
    """A table of short text values."""
    parts: list[bytes] = []
    for name, value in values.items():
        raw = value.encode()
        parts += (short_string(name, "header"), b"S", _LONG.pack(len(raw)), raw)
    body = b"".join(parts)
    return _LONG.pack(len(body)) + body


def message_frames(method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """All frames of one message, in one piece."""
    header = (
        _FRAME.pack(HEADER, CHANNEL, _CONTENT.size + len(properties))
        + _CONTENT.pack(60, 0, len(body))
        + properties
        + _END
    )
    room = frame_max - OVERHEAD
    if len(body) <= room:
        return b"".join((method, header, _FRAME.pack(BODY, CHANNEL, len(body)), body, _END))
    parts = [method, header]
    for start in range(0, len(body), room):
        part = body[start : start + room]
        parts += (_FRAME.pack(BODY, CHANNEL, len(part)), part, _END)
    return b"".join(parts)


def confirm(payload: bytes) -> tuple[int, bool]:
    """(delivery tag, multiple) of an ack or a nack."""
    _, tag, bits = _CONFIRM.unpack_from(payload)
    return tag, bool(bits & 1)


class FrameReader:
    """Cuts what the socket gives into frames, whatever the pieces it comes in."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(frame type, channel, payload) of every frame that is complete.

        Raises:
            BrokenFrame: this is no AMQP.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, end = 0, len(data)
        try:
            while end - position >= OVERHEAD:
                kind, channel, size = _FRAME.unpack_from(data, position)
                if kind not in (METHOD, HEADER, BODY, HEARTBEAT) or size > _MAX_FRAME:
                    raise BrokenFrame(_what(data[position : position + 8]))
                after = position + size + OVERHEAD
                if after > end:
                    break
                if data[after - 1] != END:
                    raise BrokenFrame("a frame of the broker does not end where it should")
                payload = data[position + _FRAME.size : after - 1]
                position = after
                yield kind, channel, payload
        finally:
            self._rest = data[position:]


def _what(start: bytes) -> str:
    if start.startswith(b"AMQP"):
        return "the broker speaks another version of AMQP"
    return "the answer is no AMQP: is this the broker's port, and TLS where it is expected?"
