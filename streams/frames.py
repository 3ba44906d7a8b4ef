"""AMQP 0-9-1 frames as far as a consumer's fast path needs them: pure functions over bytes.

A delivery is three frames or more: a method frame (Basic.Deliver), a content header with the properties, and
the body. pamqp takes 12 µs to make objects of them; what we need of them can be read in 3. Properties of
a kind that hardly anybody sends are left to pamqp.

https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, sections 2.3.5 and 4.2
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from struct import Struct
from typing import Any, Final, NamedTuple

from pamqp.commands import Basic
from pamqp.decode import METHODS
from pamqp.header import ContentHeader

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = 0xCE

DELIVER: Final = b"\x00\x3c\x00\x3c"
CHANNEL_OPEN_OK: Final = b"\x00\x14\x00\x0b"
CHANNEL_CLOSE: Final = b"\x00\x14\x00\x28"
CHANNEL_CLOSE_OK: Final = b"\x00\x14\x00\x29"
HEARTBEAT_FRAME: Final = bytes((HEARTBEAT, 0, 0, 0, 0, 0, 0, END))

OVERHEAD: Final = 8
"""Bytes of a frame around its payload: kind, channel and length before it, the end mark behind it."""
PREFIX: Final = 7

frame_at = Struct(">BHI").unpack_from
"""(kind, channel, payload's length) of the frame that begins at an offset."""
body_size_at = Struct(">4xQ").unpack_from
"""The body's size from a content header's payload."""

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_u64 = Struct(">Q").unpack_from
_ack = Struct(">BHIHHQBB").pack
_INTEGERS: Final = {
    code: (Struct(layout).unpack_from, Struct(layout).size)
    for code, layout in ((0x62, ">b"), (0x42, ">B"), (0x73, ">h"), (0x75, ">H"), (0x49, ">i"), (0x6C, ">q"))
}
_LONG_TEXT: Final = 0x53

_CONTENT_TYPE: Final = 0x8000
_HEADERS: Final = 0x2000
_DELIVERY_MODE: Final = 0x1000
_PRIORITY: Final = 0x0800
_MESSAGE_ID: Final = 0x0080
_TIMESTAMP: Final = 0x0040
_TYPE: Final = 0x0020
_APP_ID: Final = 0x0008
_COMMON: Final = (
    _CONTENT_TYPE | _HEADERS | _DELIVERY_MODE | _PRIORITY | _MESSAGE_ID | _TIMESTAMP | _TYPE | _APP_ID
)

_OTHERS: Final = ("content_encoding", "correlation_id", "reply_to", "priority", "expiration", "user_id")

NO_HEADERS: Final[Mapping[str, Any]] = {}


class Deliver(NamedTuple):
    """The arguments of a Basic.Deliver that matter."""

    consumer: bytes
    tag: int
    exchange: str
    routing_key: str
    redelivered: bool


class Properties(NamedTuple):
    """The properties that events are made of."""

    content_type: str = ""
    headers: Mapping[str, Any] = NO_HEADERS
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    app_id: str | None = None


def ack_frame(channel: int, tag: int) -> bytes:
    """`basic.ack(tag, multiple=True)`."""
    return _ack(METHOD, channel, 13, 60, 80, tag, 1, END)


def deliver_at(data: bytes, at: int) -> Deliver:
    """Read the arguments of a Basic.Deliver; `at` is behind the class and method ids."""
    consumer_end = at + 1 + data[at]
    exchange_at = consumer_end + 9  # a delivery tag of eight bytes, one of flags
    exchange_end = exchange_at + 1 + data[exchange_at]
    key_end = exchange_end + 1 + data[exchange_end]
    return Deliver(
        data[at + 1 : consumer_end],
        _u64(data, consumer_end)[0],
        data[exchange_at + 1 : exchange_end].decode(errors="replace"),
        data[exchange_end + 1 : key_end].decode(errors="replace"),
        bool(data[exchange_at - 1] & 1),
    )


def properties_of(payload: bytes) -> Properties:
    """Read a content header's payload.

    Raises:
        ValueError, struct.error, IndexError: the broker would have to be broken.
    """
    flags = _u16(payload, 12)[0]
    if flags & ~_COMMON:
        return _by_pamqp(payload)
    at = 14
    content_type, message_id, timestamp, type_, app_id = "", None, None, None, None
    headers = NO_HEADERS
    if flags & _CONTENT_TYPE:
        end = at + 1 + payload[at]
        content_type, at = payload[at + 1 : end].decode(errors="replace"), end
    if flags & _HEADERS:
        end = at + 4 + _u32(payload, at)[0]
        found = _table(payload, at + 4, end)
        headers = METHODS["table"](payload[at:end])[1] if found is None else found  # type: ignore[assignment]
        at = end
    if flags & _DELIVERY_MODE:
        at += 1
    if flags & _PRIORITY:
        at += 1
    if flags & _MESSAGE_ID:
        end = at + 1 + payload[at]
        message_id, at = payload[at + 1 : end].decode(errors="replace"), end
    if flags & _TIMESTAMP:
        timestamp = _timestamp(_u64(payload, at)[0])
        at += 8
    if flags & _TYPE:
        end = at + 1 + payload[at]
        type_, at = payload[at + 1 : end].decode(errors="replace"), end
    if flags & _APP_ID:
        app_id = payload[at + 1 : at + 1 + payload[at]].decode(errors="replace")
    return Properties(content_type, headers, message_id, timestamp, type_, app_id)


def _table(data: bytes, at: int, end: int) -> dict[str, Any] | None:
    """A header table of texts and integers; None when there is anything else in it."""
    table: dict[str, Any] = {}
    try:
        while at < end:
            name_end = at + 1 + data[at]
            name = data[at + 1 : name_end].decode()
            kind = data[name_end]
            at = name_end + 1
            if kind == _LONG_TEXT:
                value_end = at + 4 + _u32(data, at)[0]
                table[name], at = data[at + 4 : value_end].decode(), value_end
            elif integer := _INTEGERS.get(kind):
                table[name] = integer[0](data, at)[0]
                at += integer[1]
            else:
                return None
    except UnicodeDecodeError:
        return None
    return table


def _timestamp(value: int) -> datetime | None:
    """As pamqp reads it: beyond the year 2106 it must be milliseconds. None where it means nothing."""
    try:
        return datetime.fromtimestamp(value if value <= 0xFFFFFFFF else value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def others_of(payload: bytes) -> dict[str, Any]:
    """The properties of a content header that have no field in `Properties`, by their AMQP names."""
    found = _unmarshal(payload)
    return {name: value for name in _OTHERS if (value := getattr(found, name)) is not None}


def _unmarshal(payload: bytes) -> Basic.Properties:
    header = ContentHeader()
    header.unmarshal(payload)
    return header.properties


def _by_pamqp(payload: bytes) -> Properties:
    found = _unmarshal(payload)
    return Properties(
        found.content_type or "",
        found.headers or NO_HEADERS,
        found.message_id,
        found.timestamp,
        found.message_type,
        found.app_id,
    )
