"""What somebody who watches an exchange is shown: every event of a message, however bad it is.

Nothing that a producer wrote reaches a terminal as it is: control characters, which could recolour, overwrite
or retitle it, and those that reverse the direction of text, are shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from pydantic_core import from_json

BATCH: Final = "application/cloudevents-batch+json"
STRUCTURED: Final = "application/cloudevents+json"

_PREVIEW: Final = 120
_BIDI: Final = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF]
_ESCAPES: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in [*range(0x20), *range(0x7F, 0xA0), *_BIDI, *range(0xD800, 0xE000)]
}


@dataclass(frozen=True, slots=True)
class Letter:
    """An AMQP message, as it was delivered to the watcher."""

    exchange: str
    routing_key: str
    body: bytes
    content_type: str = ""
    message_id: str | None = None
    type: str | None = None
    app_id: str | None = None
    timestamp: datetime | None = None
    headers: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One event, or what stands in its place."""

    letter: Letter
    event: Mapping[str, Any]
    """Its CloudEvents attributes and data; those that could not be read are missing."""
    problem: str | None = None

    @property
    def reason(self) -> str | None:
        """Why it was refused: of a dead letter."""
        reason = (self.letter.headers or {}).get("x-reason")
        return None if reason is None else str(reason)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are shown; patterns as in file names."""

    types: Sequence[str] = ()
    source: str | None = None
    entity: str | None = None

    def takes(self, seen: Seen) -> bool:
        event = seen.event
        if self.types and not any(fnmatchcase(str(event.get("type", "")), pattern) for pattern in self.types):
            return False
        if self.source is not None and not fnmatchcase(str(event.get("source", "")), self.source):
            return False
        if self.entity is None:
            return True
        data = event.get("data")
        return isinstance(data, Mapping) and self.entity in data.values()


def events_of(letter: Letter) -> list[Seen]:
    """The events of a message; at least one."""
    kind = letter.content_type.partition(";")[0].strip().lower()
    try:
        content = from_json(letter.body)
    except ValueError:
        preview = letter.body[:_PREVIEW].decode(errors="replace")
        return [Seen(letter, _binary(letter, preview), "is no JSON")]
    if kind == BATCH and isinstance(content, list):
        return [_structured(letter, element) for element in content] or [
            Seen(letter, {}, "is an empty array")
        ]
    return [
        _structured(letter, content)
        if kind in (BATCH, STRUCTURED)
        else Seen(letter, _binary(letter, content))
    ]


def _structured(letter: Letter, content: Any) -> Seen:
    return (
        Seen(letter, content) if isinstance(content, dict) else Seen(letter, {"data": content}, "is no event")
    )


def _binary(letter: Letter, data: Any) -> dict[str, Any]:
    headers = letter.headers or {}
    attributes = {
        "id": letter.message_id,
        "source": letter.app_id,
        "type": letter.type,
        "time": letter.timestamp.isoformat() if letter.timestamp else None,
    }
    for name in attributes:
        given = headers.get(f"cloudEvents:{name}", headers.get(f"cloudEvents_{name}"))
        if given is not None:
            attributes[name] = str(given)
    return {**{name: value for name, value in attributes.items() if value is not None}, "data": data}


def as_ndjson(seen: Seen) -> str:
    """The event on a line, and beside it where it came from; ASCII alone."""
    letter = seen.letter
    line: dict[str, Any] = {
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "event": seen.event,
    }
    if seen.reason is not None:
        line["reason"] = seen.reason
    if seen.problem is not None:
        line["problem"] = seen.problem
    return json.dumps(line, default=str)


def as_text(seen: Seen, width: int | None = None) -> str:
    """A line for people, no wider than `width`."""
    event = seen.event
    time = str(event.get("time", ""))[11:23] or "-"
    data = event.get("data")
    shown = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, default=str)
    parts = [
        time.ljust(12),
        f"{event.get('type') or seen.letter.routing_key!s}".ljust(20),
        str(event.get("source", "-")),
    ]
    if seen.reason is not None:
        parts.append(f"[{seen.reason}: {(seen.letter.headers or {}).get('x-error', '')}]")
    if seen.problem is not None:
        parts.append(f"[the message {seen.problem}]")
    text = escaped("  ".join([*parts, shown]))
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 1)]}…"


def escaped(text: str) -> str:
    """The text without anything that a terminal would obey."""
    return text.translate(_ESCAPES)
