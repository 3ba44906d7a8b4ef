"""The kinds of values that events are made of, each with its bounds.

Bounds are part of the contract: what they let through, PostgreSQL stores.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, PlainSerializer, StringConstraints

MAX_JSON_DEPTH = 32
_NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text has no NUL (22021)


def _is_uuid7(value: UUID) -> UUID:
    if value.version != 7:
        raise ValueError("must be a UUIDv7: its milliseconds are the row's created_at (see derive_id)")
    return value


def _fits_identifier(value: str) -> str:
    if len(value.encode()) > 255:
        raise ValueError("must not be longer than 255 bytes")
    return value


def check_json(value: Any, depth: int = 0) -> Any:
    """Refuse what JSON parsers and jsonb disagree on: NUL, NaN, huge integers, endless nesting."""
    match value:
        case str():
            if "\x00" in value:
                raise ValueError("must not contain the character U+0000")
        case int():
            if not -(1 << 63) <= value < 1 << 63:
                raise ValueError("must not contain integers beyond 64 bits; send them as strings")
        case float():
            if not math.isfinite(value):
                raise ValueError("must not contain NaN or infinity")
        case dict():
            if depth >= MAX_JSON_DEPTH:
                raise ValueError(f"must not nest deeper than {MAX_JSON_DEPTH} levels")
            for key, item in value.items():
                check_json(key, depth + 1)
                check_json(item, depth + 1)
        case list():
            if depth >= MAX_JSON_DEPTH:
                raise ValueError(f"must not nest deeper than {MAX_JSON_DEPTH} levels")
            for item in value:
                check_json(item, depth + 1)
        case _:
            pass  # true, false, null
    return value


Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=_NO_NUL), AfterValidator(_fits_identifier)
]
"""A CloudEvents `id` or `source`: 1 to 255 bytes of UTF-8."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)]
"""A short label: a kind, a choice, a capability."""

Text = Annotated[str, StringConstraints(max_length=10_000, pattern=_NO_NUL)]
"""Prose: a note, a rationale, an error message."""

JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]
"""Any JSON object that jsonb can hold."""

DatedId = Annotated[UUID, AfterValidator(_is_uuid7)]
"""A UUIDv7, whose milliseconds name the partition that the entity lives in."""

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def json_number(value: Decimal) -> int | float | str:
    """A decimal for JSON: a number, or text where a double would round it."""
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


_AsNumber = PlainSerializer(json_number, return_type=int | float | str, when_used="json")

Weight = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=6, allow_inf_nan=False), _AsNumber]
"""A vote's weight or a quorum: decimal, since sums of binary fractions depend on their order."""

TotalWeight = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6, allow_inf_nan=False), _AsNumber]
"""A sum of weights."""

Instant = AwareDatetime
"""A point in time with a zone, to the microsecond."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def dated(value: UUID) -> datetime:
    """The instant (UTC, milliseconds) inside a UUIDv7.

    Raises:
        OverflowError: past the year 9999; callers check the window first.
    """
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def microseconds(value: datetime) -> int:
    """Microseconds since 1970, exactly (a float timestamp would round)."""
    delta = value - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
