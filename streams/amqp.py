"""Makes the AMQP library survive what producers may write into properties, and a stop while it connects.

pamqp raises for a timestamp beyond the year 9999 (microseconds sent as seconds are enough) and for text
that is no UTF-8. aiormq takes that for a broken connection, reconnects, and is given the same message
again: one such message would stop every queue of the process for good. So the decoders are made total: a
timestamp that means nothing is None, what is no UTF-8 is read with replacement characters, and a header
table that cannot be read is empty; decoding then refuses the event by its field.

Headers are also written again, in dead letters and replays: numbers keep their precision then, and bytes
that are no text stay bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aio_pika import RobustConnection
from aio_pika.abc import TimeoutType
from pamqp import decode, encode

RECONNECT_SECONDS: Final = 1.0
_TIMESTAMP_BYTES: Final = 8


def tolerate_any_property() -> None:
    """Replace pamqp's decoders in its tables, once; what they could read they read as before."""
    if getattr(decode, "_total", False):
        return
    timestamp = _total_timestamp(decode.timestamp)
    decode.METHODS["timestamp"] = timestamp
    decode.TABLE_MAPPING[b"T"] = timestamp
    decode.METHODS["shortstr"] = decode.short_str = _total_short_string(decode.short_str)  # type: ignore[assignment]
    table = _total_table(decode.field_table)
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = table
    encode.encode_table_value = _exact_value(encode.encode_table_value)  # type: ignore[assignment]
    decode._total = True  # type: ignore[attr-defined]


def _exact_value(original: Callable[..., bytes]) -> Callable[[Any], bytes]:
    def value(value: Any) -> bytes:
        if isinstance(value, float):
            return b"d" + encode.double(value)  # the original writes single precision, or fails
        if isinstance(value, bytes):
            return b"S" + len(value).to_bytes(4, "big") + value
        return original(value)

    return value


def _total_timestamp(original: Callable[[bytes], tuple[int, Any]]) -> Callable[[bytes], tuple[int, Any]]:
    def timestamp(value: bytes) -> tuple[int, Any]:
        try:
            return original(value)
        except (ValueError, OverflowError, OSError):
            if len(value) < _TIMESTAMP_BYTES:
                raise  # the frame is cut off: that is a broken connection
            return _TIMESTAMP_BYTES, None

    return timestamp


def _total_table(original: Callable[[bytes], tuple[int, Any]]) -> Callable[[bytes], tuple[int, Any]]:
    def table(value: bytes) -> tuple[int, Any]:
        try:
            return original(value)
        except Exception:  # RecursionError, too: tables nest as deep as their bytes allow
            end = 4 + int.from_bytes(value[:4], "big")
            if end > len(value):
                raise
            return end, {}  # a name that is no UTF-8, a value of no known kind: read none of it

    return table


def _total_short_string(original: Callable[[bytes], tuple[int, Any]]) -> Callable[[bytes], tuple[int, Any]]:
    def short_string(value: bytes) -> tuple[int, Any]:
        try:
            return original(value)
        except UnicodeDecodeError:
            length = value[0]
            return length + 1, value[1 : length + 1].decode(errors="replace")

    return short_string


class Connection(RobustConnection):
    """A robust connection that may be cancelled while it connects.

    Its base leaves a task behind then, which goes on trying for ever and does not let itself be cancelled:
    the process would not end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reconnect_interval = RECONNECT_SECONDS

    async def connect(self, timeout: TimeoutType = None) -> None:
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise
