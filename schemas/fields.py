"""The kinds of values that events are made of, each with its bounds.

Bounds are part of the contract: what they let through, PostgreSQL stores.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic.types import UuidVersion
from pydantic_core import CoreSchema, core_schema

MAX_JSON_DEPTH = 32
"""Levels of nesting in a JSON object, unless validation is given a `max_json_depth` as its context."""
UUID7_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
_NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text has no NUL (22021)
_AN_ID = "019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"  # of 2026-01-15T09:30:00Z, as all examples of the contract


def _fits_identifier(value: str) -> str:
    if not value.isascii() and len(value.encode()) > 255:
        raise ValueError("must not be longer than 255 bytes")
    return value


def check_json(value: Any, info: ValidationInfo) -> Any:
    """Refuse what JSON parsers and jsonb disagree on: NUL, NaN, huge integers, endless nesting."""
    _check_json(value, (info.context or {}).get("max_json_depth", MAX_JSON_DEPTH), 0)
    return value


def _check_json(value: Any, deepest: int, depth: int) -> None:
    # The hot path walks every value of every payload: by type, the commonest first; `match` costs twice that.
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("must not contain the character U+0000")
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError("must not contain integers beyond 64 bits; send them as strings")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must not contain NaN, infinity or numbers beyond 1.8e308")
    elif isinstance(value, dict | list):
        if depth >= deepest:
            raise ValueError(f"must not nest deeper than {deepest} levels (STREAMS_MAX_JSON_DEPTH)")
        if isinstance(value, dict):
            if "\x00" in "".join(value):
                raise ValueError("must not contain the character U+0000")
            value = value.values()
        for item in value:
            _check_json(item, deepest, depth + 1)


def _in_utc(value: datetime) -> datetime:
    """In the standard library's own UTC: what is computed with an instant, and comparing it above all, costs
    a tenth of what it does with pydantic's class of zones."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return value  # the window of dates refuses it


def _has_utc(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999, in UTC, too") from None
    return value


class _NotANumber:
    """JSON text that names a year: the parser would take "1795435200" for seconds or, if it is large,
    for milliseconds, and a guess is no time."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=r"^\d{4}-")
        instant = core_schema.datetime_schema(tz_constraint="aware", strict=False)
        return core_schema.json_or_python_schema(
            json_schema=core_schema.chain_schema([text, instant]), python_schema=handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(core_schema.datetime_schema(tz_constraint="aware"))


class _OrNone:
    """What is not valid is None instead of an error."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


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

DatedId = Annotated[
    UUID,
    UuidVersion(7),  # looks at version and variant, in Rust
    Field(json_schema_extra={"format": "uuid", "pattern": UUID7_PATTERN, "examples": [_AN_ID]}),
]
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

Instant = Annotated[AwareDatetime, _NotANumber(), AfterValidator(_in_utc)]
"""A point in time with a zone (RFC 3339), to the microsecond."""

AnyInstant = Annotated[AwareDatetime, _NotANumber(), AfterValidator(_has_utc)]
"""An instant that no window of dates is held against."""

TraceText = Annotated[str | None, _OrNone()]
"""Trace context: what is none costs the trace, never the event."""

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
