"""Which letters are meant: by reason, type, queue, time and id."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.errors import ConfigurationError
from streams.dlq.letter import Letter

_AGE: Final = re.compile(r"(\d{1,9})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHORTEST_PREFIX: Final = 4


@dataclass(frozen=True, slots=True)
class Selection:
    """A letter is meant when it matches every kind of condition that is given.

    Args:
        ids: a letter's id or the beginning of it (4 characters at least), or the whole id of its event.
        since, until: by the time it was put into quarantine; letters of unknown time match neither.
    """

    reasons: Collection[str] = ()
    types: Collection[str] = ()
    queues: Collection[str] = ()
    ids: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        return self == Selection()

    def means(self, letter: Letter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.types or letter.type in self.types)
            and (not self.queues or letter.queue in self.queues)
            and (not self.ids or any(_is_named(letter, each) for each in self.ids))
            and self._in_time(letter.quarantined)
        )

    def _in_time(self, time: datetime | None) -> bool:
        if self.since is None and self.until is None:
            return True
        if time is None:
            return False
        return (self.since is None or time >= self.since) and (self.until is None or time < self.until)


def _is_named(letter: Letter, name: str) -> bool:
    if len(name) >= _SHORTEST_PREFIX and str(letter.id).startswith(name.lower()):
        return True
    return name == letter.event_id


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A point in time: ISO 8601 (UTC unless it says otherwise), or an age such as 90s, 30m, 2h, 7d, 1w.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text.strip())
        return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is no time: give an age (30m, 2h, 7d) or ISO 8601 (2026-01-31T12:00)"
        ) from None
