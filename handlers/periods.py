"""The periods of leaderboards, by UTC calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from schemas.cache import Period


def start_of(period: Period, day: date) -> date | None:
    """The first day of the period that `day` lies in."""
    match period:
        case Period.DAILY:
            return day
        case Period.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Period.MONTHLY:
            return day.replace(day=1)
        case Period.ALL_TIME:
            return None


def end_of(period: Period, start: date) -> date:
    """The first day after the period that starts on `start`."""
    if period is Period.MONTHLY:
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=7 if period is Period.WEEKLY else 1)


def today() -> date:
    return datetime.now(UTC).date()
