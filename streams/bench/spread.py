"""A figure over several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

SCHEMA: Final = 1
"""Version of the results' JSON."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))
