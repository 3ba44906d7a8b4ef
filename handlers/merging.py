"""How two accounts of the same thing become one: the later one wins, whatever the order they came in.

Every function here is commutative, associative and idempotent (but for which of two equal objects is
returned: always the first, so that "nothing changed" can be told by identity).
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeVar


class Stamped(Protocol):
    """A group of columns that one event has set."""

    @property
    def stamp(self) -> bytes:
        """The event's place in the order (time, rank, source, id)."""
        ...


S = TypeVar("S", bound=Stamped)


def newest(first: S | None, second: S | None) -> S | None:
    """The one with the greater stamp; the first if they are equal."""
    if first is None:
        return second
    if second is None or second.stamp <= first.stamp:
        return first
    return second


def latest(first: datetime | None, second: datetime | None) -> datetime | None:
    """The greater instant that is known."""
    if first is None:
        return second
    if second is None or second <= first:
        return first
    return second


def earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    """The smaller instant that is known."""
    if first is None:
        return second
    if second is None or second >= first:
        return first
    return second
