"""The listed differences between schema and service, as predicates of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from tests.contract.judges import LIMITS, NOW

_FREE_FORM = ("payload", "result")
_DECIMALS = ("weight", "quorum")
_INTEGERS = ("priority", "votes")
_INSTANTS = ("time", "closes_at", "decided_at")
_DATED = ("task_id", "round_id")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RFC3339 = re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PLAIN = re.compile(r"(0|[1-9]\d*)(\.\d{1,6})?", re.ASCII)


def explain_refusal(event: Any) -> set[str]:
    """The rules beyond the schemas that an event breaks, by their names in the document."""
    found = set()
    if any(0xD800 <= ord(character) <= 0xDFFF for text in _texts(event) for character in text):
        return {"unicode"}
    for name, value in _fields(event):
        if name in ("id", "source") and isinstance(value, str) and len(value.encode()) > 255:
            found.add("bytes")
        if name in _DECIMALS and isinstance(value, int | float) and _places(value) > 6:
            found.add("decimals")
        if name in _INTEGERS and isinstance(value, float) and value.is_integer():
            found.add("integers")
        if name in _FREE_FORM:
            found |= _free_form(value, 0)
        if name in _INSTANTS and isinstance(value, str) and _overflows(value):
            found.add("years")
    if any(not _inside(moment) for moment in _moments(event)):
        found.add("window")
    return found


def _overflows(text: str) -> bool:
    try:
        _instant(text).astimezone(UTC)
    except OverflowError:
        return True
    except ValueError:
        pass
    return False


def promised(event: Any) -> Any:
    """The event with every spelling that is only tolerated put as the contract has it."""
    if not isinstance(event, dict):
        return event
    data = event.get("data")
    said = {name: _canonical(name, value) for name, value in event.items() if name != "data"}
    if "data" in event:
        said["data"] = {k: _canonical(k, v) for k, v in data.items()} if isinstance(data, dict) else data
    return said


def _canonical(name: str, value: Any) -> Any:
    """A value that only tolerance lets through as the contract has it; others, and nonsense, as they are."""
    if name in ("traceparent", "tracestate") and not isinstance(value, str):
        return None
    if name == "tally" and isinstance(value, dict):
        return {option: _canonical("weight", weight) for option, weight in value.items()}
    if not isinstance(value, str):
        return value
    with suppress(ValueError, InvalidOperation, OverflowError):
        if name.endswith("_id") and not _UUID.fullmatch(value):
            return str(UUID(value))
        if name in _INSTANTS and not _RFC3339.fullmatch(value):
            return _instant(value).astimezone(UTC).isoformat()
        if name in _DECIMALS and not _PLAIN.fullmatch(value):
            return format(Decimal(value).normalize(), "f")
    return value


def _instant(text: str) -> datetime:
    """Wider than the service: what it accepts must be found here."""
    whole, _, zone = text.upper().replace("_", "T").replace(" ", "T").replace(",", ".").partition(".")
    digits = zone[: len(zone) - len(zone.lstrip("0123456789"))]
    text = f"{whole}.{digits[:6]:0<6}{zone[len(digits) :]}" if digits else whole
    return max(datetime.fromisoformat(text), datetime(1000, 1, 2, tzinfo=UTC))


def _fields(event: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(event, dict):
        yield from event.items()
        if isinstance(event.get("data"), dict):
            yield from event["data"].items()


def _moments(event: Any) -> Iterator[datetime]:
    for name, value in _fields(event):
        if not isinstance(value, str):
            continue
        with suppress(ValueError):
            if name == "time":
                yield _instant(value)
            elif name in _DATED:
                seconds = (UUID(value).int >> 80) / 1000
                yield datetime.fromtimestamp(min(seconds, 250_000_000_000), UTC)  # before the year 10000


def _inside(moment: datetime) -> bool:
    earliest = NOW - timedelta(days=LIMITS.retention_days)
    return earliest <= moment <= NOW + timedelta(seconds=LIMITS.clock_skew_seconds)


def _places(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _free_form(value: Any, depth: int) -> set[str]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        deep = {"depth"} if depth >= 32 else set()
        return deep.union(*(_free_form(child, depth + 1) for child in children))
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return {"big-integers"}
    return {"numbers"} if value in (float("inf"), float("-inf")) else set()


def _texts(value: Any) -> Iterator[str]:
    yield json.dumps(value, ensure_ascii=False)
