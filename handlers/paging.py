"""Pages of a list: opaque cursors, bounded bodies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson

from schemas.errors import StreamsError
from schemas.fields import microseconds

MAX_LIMIT: Final = 100
MAX_CURSOR: Final = 4096
MAX_PAGE_BYTES: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROSECOND: Final = 253_402_300_799_999_999  # of the year 9999

Row = Mapping[str, Any]
Position = tuple[datetime | UUID | str, ...]
"""Where a page ended: the values of its last row that the list is ordered by."""


class ParameterError(StreamsError):
    """A request's parameter that cannot be meant; the message may be shown to whoever sent it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page, ready to be encoded.

    Args:
        available: rows that the query found, one past the limit when there are more.
    """

    rows: Sequence[Row]
    limit: int
    available: int
    position: Callable[[Row], Position]
    hidden: frozenset[str] = frozenset()
    """Columns that are there for the cursor only."""

    def encode(self) -> bytes:
        """`{"data": [...], "pagination": {"cursor": ..., "has_more": ...}}` of at most 1 MB.

        A page ends early where its next row would not fit; a single row always does.
        """
        parts: list[bytes] = []
        size = 0
        for row in self.rows[: self.limit]:
            part = encode({name: row[name] for name in row if name not in self.hidden})
            size += len(part) + 1
            if parts and size > MAX_PAGE_BYTES:
                break
            parts.append(part)
        more = self.available > len(parts)
        cursor = encode_cursor(self.position(self.rows[len(parts) - 1])) if more else None
        tail = orjson.dumps({"cursor": cursor, "has_more": more})
        return b'{"data":[%b],"pagination":%b}' % (b",".join(parts), tail)


def encode(value: object) -> bytes:
    """Compact JSON; decimals as exact numbers."""
    return orjson.dumps(value, default=_other)


def _other(value: object) -> str | orjson.Fragment:
    if isinstance(value, UUID):  # asyncpg has a class of its own
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        text = f"{value:f}"
        return orjson.Fragment(text.rstrip("0").rstrip(".") if "." in text else text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_cursor(position: Position) -> str:
    """Base64url without padding, of a JSON array: instants as microseconds since 1970."""
    values = [microseconds(value) if isinstance(value, datetime) else value for value in position]
    return base64.urlsafe_b64encode(encode(values)).rstrip(b"=").decode()


def decode_cursor(text: str, kinds: Sequence[type]) -> Position:
    """The position in a cursor.

    Args:
        kinds: what it must consist of: datetime, UUID or str each.

    Raises:
        ParameterError: it is none that `encode_cursor` could have made for such a list.
    """
    bad = ParameterError("cursor", "is not a cursor of this list; use pagination.cursor of the page before")
    if len(text) > MAX_CURSOR:
        raise bad
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(kinds):
            raise bad
        position = tuple(_value(value, kind) for value, kind in zip(values, kinds, strict=True))
        if encode_cursor(position) != text:  # another spelling of the same: not ours
            raise bad
    except (ValueError, binascii.Error, TypeError):
        raise bad from None
    return position


def _value(value: object, kind: type) -> datetime | UUID | str:
    if kind is datetime and type(value) is int and 0 <= value <= _LAST_MICROSECOND:
        return _EPOCH + timedelta(microseconds=value)
    if kind is UUID and type(value) is str:
        return UUID(value)
    if kind is str and type(value) is str and "\0" not in value:
        return value
    raise ValueError(kind.__name__)


def choose(text: str | None, allowed: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    """The names in a comma-separated `fields` parameter, in the allow-list's order.

    Raises:
        ParameterError: a name that is not allowed, or none at all.
    """
    if text is None:
        return tuple(default)
    asked = set(text.split(","))
    if not asked <= set(allowed):
        raise ParameterError("fields", f"must be names out of: {', '.join(allowed)}; separated by commas")
    return tuple(name for name in allowed if name in asked)
