"""Which leaderboards there are at a moment, and what they are called in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from handlers.periods import end_of, start_of
from schemas.cache import Period, board_key

SKEW: Final = timedelta(minutes=5)
"""How far clocks may be apart: around midnight both days' boards are kept up to date."""

_GRACE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard of a period, kept as a sorted set.

    Args:
        since: first day of the period. The board of all time is kept by month: `since` is the month's first
            day, and what was before is one sum for each agent (its base), read when one of those days
            changes.
    """

    period: Period
    since: date

    @classmethod
    def at(cls, period: Period, day: date) -> Board:
        """The board of a period on a day (UTC)."""
        return cls(period, start_of(period, day) or day.replace(day=1))

    @property
    def start(self) -> date | None:
        """First day that counts; None for all time."""
        return None if self.has_base else self.since

    @property
    def end(self) -> date | None:
        """The first day that does not count any more; None for all time."""
        return None if self.has_base else end_of(self.period, self.since)

    @property
    def has_base(self) -> bool:
        return self.period is Period.ALL_TIME

    @property
    def expires_at(self) -> datetime:
        """When nobody asks for it any more."""
        last = end_of(Period.MONTHLY, self.since) if self.has_base else end_of(self.period, self.since)
        return datetime.combine(last, time(), UTC) + _GRACE

    @property
    def name(self) -> str:
        return f"{self.period}:{self.since.isoformat()}"

    @property
    def keys(self) -> list[str]:
        """The ranks, the rows; those that are being built."""
        return [board_key(self.period, self.since, part) for part in ("rank", "rows", "rank:new", "rows:new")]


def boards_at(now: datetime) -> list[Board]:
    """The boards that somebody may ask for about now."""
    days = ((now - SKEW).date(), (now + SKEW).date())
    return list(dict.fromkeys(Board.at(period, day) for period in Period for day in days))


@dataclass(frozen=True, slots=True)
class Score:
    points: int
    completed: int
    failed: int
    agreed: int


@dataclass(frozen=True, slots=True)
class Line:
    """What the database says of an agent in a board.

    Args:
        recent: of the board's days from `since` on; None if the agent has none of them.
        base: of the days before, where the board counts those; None if the agent has none.
        whole: the days before were read; otherwise `base` says nothing.
    """

    agent_id: UUID
    name: str | None
    recent: Score | None
    base: Score | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """An agent's place in a board."""

    rank: int
    agent_id: UUID
    name: str | None
    points: int
    completed: int
    failed: int
    agreed: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A stretch of a board, from the better to the worse.

    Args:
        size: agents in the whole board.
    """

    size: int
    places: list[Placed]
