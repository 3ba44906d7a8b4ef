"""A histogram of latencies in constant memory, with what was asked of HdrHistogram: bounded relative error.

Values below 64 µs have a bucket each; above, every power of two is cut into 64 equal buckets, so that a
percentile is at most 1.6 % above the truth, from a microsecond to hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_BITS: Final = 6
_CUTS: Final = 1 << _BITS

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)


def bucket_of(micros: int) -> int:
    if micros < _CUTS:
        return max(0, micros)
    shift = micros.bit_length() - _BITS - 1
    return (shift + 1) * _CUTS + (micros >> shift) - _CUTS


def upper_edge(bucket: int) -> int:
    """The greatest whole number of microseconds in a bucket."""
    power, cut = divmod(bucket, _CUTS)
    return cut if power == 0 else ((_CUTS + cut + 1) << (power - 1)) - 1


@dataclass(slots=True)
class Histogram:
    """Latencies; negative ones (clocks that disagree) count as zero."""

    counts: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0
    """Seconds."""

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, seconds: float) -> None:
        self.counts[bucket_of(round(seconds * 1e6))] += 1
        self.longest = max(self.longest, seconds)

    def add_all(self, values: Iterable[float]) -> None:
        for seconds in values:
            self.add(seconds)

    def percentile(self, percent: float) -> float:
        """Seconds that `percent` of all latencies do not exceed; 0 without any."""
        left = percent / 100 * len(self)
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 1e-9:
                return min(upper_edge(bucket) / 1e6, self.longest)
        return self.longest

    def milliseconds(self, prefix: str) -> dict[str, float]:
        """`<prefix>.p50` and so on, and `<prefix>.max`."""
        figures = {f"{prefix}.p{p:g}": round(self.percentile(p) * 1e3, 3) for p in PERCENTILES}
        return figures | {f"{prefix}.max": round(self.longest * 1e3, 3)}

    def curve(self) -> list[list[float]]:
        """(percent, milliseconds) for a plot, closer and closer to 100."""
        percents = [0.0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99]
        return [[p, round(self.percentile(p) * 1e3, 3)] for p in percents]
