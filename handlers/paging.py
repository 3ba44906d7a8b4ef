"""Pages of a list: opaque cursors, numbered pages of small sets, bounded bodies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

from schemas.errors import StreamsError
from schemas.fields import microseconds

MAX_LIMIT: Final = 100
MAX_CURSOR: Final = 4096
MAX_PAGE_BYTES: Final = 1_000_000
MAX_RECORDS: Final = 10_000
"""The largest set that has numbered pages: beyond it, counting and skipping cost more than the page."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROSECOND: Final = 253_402_300_799_999_999  # of the year 9999

Row = Mapping[str, Any]
Position = tuple[datetime | UUID | str | int, ...]
"""Where a page ended: the values of its last row that the list is ordered by."""


class ParameterError(StreamsError):
    """A request's parameter that cannot be meant; the message may be shown to whoever sent it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class TooManyRecords(StreamsError):
    """The set is too large for numbered pages; the message may be shown to whoever sent it."""

    def __init__(self) -> None:
        super().__init__(
            f"numbered pages are for sets of at most {MAX_RECORDS} records, and this one is larger: "
            "leave `page` out and pass on pagination.cursor, or filter more narrowly"
        )


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list: what follows a cursor, or the page of a number; and in which order.

    Args:
        page: counted from 1; None for pages by cursor.
        sort: a sort key of the list; None for its default.
    """

    limit: int = 20
    cursor: str | None = None
    page: int | None = None
    sort: str | None = None

    def __post_init__(self) -> None:
        if self.page is not None and self.cursor is not None:
            raise ParameterError("page", "cannot be combined with cursor: pages go by one or by the other")

    @property
    def offset(self) -> int:
        return 0 if self.page is None else (self.page - 1) * self.limit


class Body(Protocol):
    """What a list answers with."""

    def encode(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page, ready to be encoded.

    Args:
        available: rows that the query found, one past the limit when there are more.
        scope: what binds the cursor to this list, its filters and its order: see `scope_of`.
    """

    rows: Sequence[Row]
    limit: int
    available: int
    position: Callable[[Row], Position]
    scope: str
    hidden: frozenset[str] = frozenset()
    """Columns that are there for the cursor only."""

    def encode(self) -> bytes:
        """`{"data": [...], "pagination": {"cursor": ..., "has_more": ...}}` of at most 1 MB.

        A page ends early where its next row would not fit; a single row always does.
        """
        parts: list[bytes] = []
        size = 0
        for row in self.rows[: self.limit]:
            part = _shown(row, self.hidden)
            size += len(part) + 1
            if parts and size > MAX_PAGE_BYTES:
                break
            parts.append(part)
        more = self.available > len(parts)
        cursor = encode_cursor(self.position(self.rows[len(parts) - 1]), self.scope) if more else None
        return _body(parts, {"cursor": cursor, "has_more": more})


@dataclass(frozen=True, slots=True)
class NumberedPage:
    """Rows of the page of a number, in a set that was counted."""

    rows: Sequence[Row]
    request: PageRequest
    total: int
    hidden: frozenset[str] = frozenset()

    def encode(self) -> bytes:
        """`{"data": [...], "pagination": {"page", "limit", "total_records", "total_pages"}}`.

        Raises:
            ParameterError: the body would be larger than 1 MB; a numbered page cannot end early.
        """
        parts = [_shown(row, self.hidden) for row in self.rows]
        if len(parts) > 1 and sum(map(len, parts)) > MAX_PAGE_BYTES:
            raise ParameterError("limit", "makes a page larger than 1 MB: lower it, or leave `page` out")
        limit = self.request.limit
        pages = {"total_records": self.total, "total_pages": -(-self.total // limit)}
        return _body(parts, {"page": self.request.page, "limit": limit, **pages})


def _shown(row: Row, hidden: frozenset[str]) -> bytes:
    return encode({name: row[name] for name in row if name not in hidden})


def _body(parts: Sequence[bytes], pagination: Mapping[str, object]) -> bytes:
    return b'{"data":[%b],"pagination":%b}' % (b",".join(parts), orjson.dumps(pagination))


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


def scope_of(*parts: object) -> str:
    """A short digest of a list's name, filters and order: what a cursor of it belongs to."""
    return blake2b(encode(parts), digest_size=6).hexdigest()


def encode_cursor(position: Position, scope: str) -> str:
    """Base64url without padding, of a JSON array: the scope, then instants as microseconds since 1970."""
    values = [microseconds(value) if isinstance(value, datetime) else value for value in position]
    return base64.urlsafe_b64encode(encode([scope, *values])).rstrip(b"=").decode()


def decode_cursor(text: str, kinds: Sequence[type], scope: str) -> Position:
    """The position in a cursor.

    Args:
        kinds: what it must consist of: datetime, UUID, str or int each.

    Raises:
        ParameterError: it is none that `encode_cursor` could have made for this list, these filters and
            this order.
    """
    bad = ParameterError(
        "cursor", "is not a cursor of this list with these filters; use pagination.cursor of the page before"
    )
    if len(text) > MAX_CURSOR:
        raise bad
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(kinds) + 1:
            raise bad
        position = tuple(_value(value, kind) for value, kind in zip(values[1:], kinds, strict=True))
        if encode_cursor(position, scope) != text:  # another spelling, or another scope
            raise bad
    except (ValueError, binascii.Error, TypeError):
        raise bad from None
    return position


def _value(value: object, kind: type) -> datetime | UUID | str | int:
    if kind is datetime and type(value) is int and 0 <= value <= _LAST_MICROSECOND:
        return _EPOCH + timedelta(microseconds=value)
    if kind is UUID and type(value) is str:
        return UUID(value)
    if kind is str and type(value) is str and "\0" not in value:
        return value
    if kind is int and type(value) is int and -(2**31) <= value < 2**31:
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
