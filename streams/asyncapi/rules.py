"""Where the schemas and the service part: rules that no schema can say, and spellings that it takes anyway.

Both lists are part of the document. `tests/property/test_contract.py` holds them complete: on generated
payloads, schema and service agree on all but these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from schemas.errors import Reason

if TYPE_CHECKING:
    from streams.settings import Settings

VERSION: Final = "0.1.0"
"""Of the contract; docs/evolution.md says when it changes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator sets and producers have to know."""

    max_message_bytes: int
    max_events_per_message: int
    clock_skew_seconds: float
    retention_days: int
    max_json_depth: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            settings.max_message_bytes,
            settings.max_events_per_message,
            settings.clock_skew_seconds,
            settings.retention_days,
            settings.max_json_depth,
        )


def beyond_the_schemas(limits: Limits) -> dict[str, str]:
    """Rules that a payload can break though its schema accepts it, by name."""
    return {
        "window": f"`time` and the instants inside UUIDv7 ids must lie between {limits.retention_days} days "
        f"ago and {limits.clock_skew_seconds:g} seconds ahead; else `{Reason.OUTSIDE_WINDOW}`.",
        "bytes": "`id` and `source` may have 255 *bytes* of UTF-8 each; schemas count characters.",
        "decimals": "A `weight` or `quorum` that is sent as a number may have six digits after the point.",
        "integers": "An integer must be written as one: `3`, not `3.0` or `3e0`.",
        "depth": f"Free-form objects (`payload`, `result`) nest at most {limits.max_json_depth} levels.",
        "big-integers": "Integers in free-form objects fit 64 bits; send larger ones as text.",
        "numbers": "Numbers in free-form objects must be finite as doubles: `1e400` is not.",
        "years": "Instants must lie in the years 1 to 9999 in UTC, too: `9999-12-31T23:00:00-02:00` fails.",
        "unicode": "Text must be valid Unicode: a lone surrogate such as `\\ud800` makes it unreadable.",
        "size": f"A message may have {limits.max_message_bytes:,} bytes, an array "
        f"{limits.max_events_per_message:,} events; else `{Reason.TOO_LARGE}`.",
    }


def beyond_the_promise() -> dict[str, str]:
    """Spellings that the service takes today though the schemas refuse them. Do not rely on them."""
    return {
        "uuids": "A UUID without hyphens, in braces, or with the prefix `urn:uuid:`.",
        "instants": "An instant that ISO 8601 allows and RFC 3339 does not: a space for `T`, no seconds, "
        "`+0100`, `,5`, more than nine digits of a second; years before 1000.",
        "traces": "A `traceparent` or `tracestate` that is no text: it is ignored.",
        "decimal-texts": "A decimal in text with a sign, an exponent, surplus zeros, underscores or blanks.",
    }


def as_markdown(rules: dict[str, str]) -> str:
    return "\n".join(f"- {rule}" for rule in rules.values())


def extension(limits: Limits) -> dict[str, Any]:
    """The same for machines."""
    return {"x-beyond-schemas": beyond_the_schemas(limits), "x-tolerated": beyond_the_promise()}
