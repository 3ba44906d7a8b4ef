"""What the command line shows of letters: tables for people, JSON for machines.

Payloads are in `letter_payload` and in `as_json(with_payload=True)`, and nowhere else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.errors import REASONS, Reason
from streams.dlq.letter import Letter, route
from streams.dlq.text import payload, printable

_MAX_ERROR: Final = 160
_MAX_VALUE: Final = 500


@dataclass(slots=True)
class Summary:
    """The letters of one reason."""

    letters: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, time: datetime | None) -> None:
        self.letters += 1
        if time is not None:
            self.oldest = min(time, self.oldest or time)
            self.newest = max(time, self.newest or time)


@dataclass(slots=True)
class Listing:
    """The letters that are meant, the first `limit` of them in full; each is counted once.

    Args:
        limit: rows; all are counted.
    """

    limit: int
    rows: dict[UUID, Letter] = field(default_factory=dict)
    copies: dict[UUID, int] = field(default_factory=dict)
    """Of letters that lie in the queue more than once."""
    reasons: dict[str, Summary] = field(default_factory=dict)
    others: int = 0
    """Consumers of somebody else: what they hold is not counted."""
    _seen: set[UUID] = field(default_factory=set)

    @property
    def total(self) -> int:
        return len(self._seen)

    def add(self, letter: Letter) -> None:
        if letter.id in self._seen:
            self.copies[letter.id] = self.copies.get(letter.id, 1) + 1
            if letter.id in self.rows:
                self.rows[letter.id] = letter  # the later one knows more: of replays, for one
            return
        self._seen.add(letter.id)
        self.reasons.setdefault(letter.reason, Summary()).add(letter.quarantined)
        if len(self.rows) < self.limit:
            self.rows[letter.id] = letter


def listing_table(listing: Listing, now: datetime) -> RenderableType:
    """The letters and, above them, how many there are for each reason."""
    if not listing.total:
        return Text("No dead letters." if not listing.others else "No dead letters that nobody holds.")
    parts: list[RenderableType] = [_summary_table(listing, now), _letters_table(listing, now)]
    more = listing.total - len(listing.rows)
    if more:
        parts.append(Text(f"… and {more:,} more (--limit shows more, --reason, --type, --since fewer)"))
    if listing.others:
        parts.append(Text("Somebody else is reading the queue: letters that they hold are not shown."))
    return Group(*parts)


def _summary_table(listing: Listing, now: datetime) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("reason", no_wrap=True)
    table.add_column("letters", justify="right", no_wrap=True)
    table.add_column("oldest", no_wrap=True)
    table.add_column("newest", no_wrap=True)
    for reason, found in sorted(listing.reasons.items(), key=lambda item: -item[1].letters):
        table.add_row(_text(reason), f"{found.letters:,}", _age(found.oldest, now), _age(found.newest, now))
    table.add_row("all", f"{listing.total:,}", style="bold")
    return table


def _letters_table(listing: Listing, now: datetime) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("id", no_wrap=True, width=8)
    table.add_column("age", no_wrap=True, width=5)
    table.add_column("reason, type", no_wrap=True, width=20)
    table.add_column("what is wrong", ratio=1, overflow="fold")
    for letter in listing.rows.values():
        notes = []
        if letter.replays:
            notes.append(f"replayed {letter.replays} ×")
        if copies := listing.copies.get(letter.id):
            notes.append(f"{copies} copies")
        what = Text(printable(letter.error[:_MAX_ERROR]))
        if notes:
            what.append(f" ({', '.join(notes)})", style="bold")
        kind = Text(printable(letter.reason), style="bold")
        kind.append(f"\n{printable(letter.type) or '-'}", style="not bold")
        table.add_row(str(letter.id)[:8], _age(letter.quarantined, now), kind, what)
    return table


def letter_details(letter: Letter) -> RenderableType:
    """All that a letter holds but its payload."""
    reason = REASONS.get(_reason(letter.reason))
    facts: list[tuple[str, str]] = [
        ("letter", str(letter.id)),
        ("reason", letter.reason),
        ("what is wrong", letter.error),
        ("field", letter.field),
        ("what to do", reason.remedy if reason else ""),
        ("event", letter.event_id),
        ("type", letter.type),
        ("queue", letter.queue),
        ("replays go to", _route(letter)),
        ("quarantined", _time(letter.quarantined)),
        ("first seen", _time(letter.first_seen)),
        ("attempts", str(letter.attempts or "")),
        ("replays", str(letter.replays or "")),
        ("trace", letter.trace_id),
    ]
    grid = _grid(facts)
    original = {k: v for k, v in letter.properties.items() if k != "headers"}
    parts: list[RenderableType] = [grid, Text("\nproperties, as received", style="bold")]
    parts.append(_grid((name, _value(value)) for name, value in sorted(original.items())))
    if headers := letter.properties.get("headers"):
        parts.append(Text("\nheaders, as received", style="bold"))
        parts.append(_grid((name, _value(value)) for name, value in sorted(headers.items())))
    parts.append(Text(f"\npayload, {len(letter.body):,} bytes", style="bold"))
    return Group(*parts)


def letter_payload(letter: Letter, shown_bytes: int | None) -> Text:
    """The payload for a terminal, the first bytes of it unless None says all. Print it with soft wraps."""
    text = Text(payload(letter.body[:shown_bytes]))
    if shown_bytes is not None and shown_bytes < len(letter.body):
        text.append(f"\n… and {len(letter.body) - shown_bytes:,} bytes more (--full shows them)")
    return text


def as_json(letter: Letter, *, with_payload: bool = False, copies: int = 1) -> dict[str, Any]:
    """A letter for machines; times in ISO 8601, what is no JSON as text."""
    document: dict[str, Any] = {
        "id": str(letter.id),
        "reason": letter.reason,
        "error": letter.error,
        "field": letter.field,
        "type": letter.type,
        "event_id": letter.event_id,
        "queue": letter.queue,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "content_type": letter.content_type,
        "bytes": letter.size,
        "quarantined": _iso(letter.quarantined),
        "first_seen": _iso(letter.first_seen),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "copies": copies,
        "trace_id": letter.trace_id,
    }
    if with_payload:
        document["properties"] = _plain(letter.properties)
        try:
            document["payload"] = letter.body.decode("utf-8")
        except UnicodeDecodeError:
            document["payload_base64"] = base64.b64encode(letter.body).decode()
    return document


def listing_as_json(listing: Listing) -> dict[str, Any]:
    return {
        "total": listing.total,
        "reasons": {
            reason: {"letters": found.letters, "oldest": _iso(found.oldest), "newest": _iso(found.newest)}
            for reason, found in sorted(listing.reasons.items())
        },
        "letters": [as_json(x, copies=listing.copies.get(x.id, 1)) for x in listing.rows.values()],
        "held_by_others": bool(listing.others),
    }


def _grid(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim", max_width=28)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value:
            grid.add_row(_text(name), _text(value))
    return grid


def _text(value: str) -> Text:
    return Text(printable(value))


def _value(value: object) -> str:
    text = value if isinstance(value, str) else str(_plain(value))
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}… ({len(text):,} characters)"


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray():
            return bytes(value).decode(errors="backslashreplace")
        case datetime():
            return value.isoformat()
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)


def _route(letter: Letter) -> str:
    try:
        exchange, routing_key = route(letter)
    except ValueError as error:
        return f"nowhere: {error}"
    return f"exchange {exchange or '(default)'}, routing key {routing_key}"


def _reason(code: str) -> Reason:
    try:
        return Reason(code)
    except ValueError:
        return Reason.FOREIGN


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _age(time: datetime | None, now: datetime) -> str:
    """How long ago, in three or four characters."""
    if time is None:
        return "-"
    seconds = max(0, int((now - time).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
