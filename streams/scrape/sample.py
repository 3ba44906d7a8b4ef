"""One reading of a process's metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
Series = Mapping[Labels, float]

_CREATED: Final = "_created"


@dataclass(frozen=True, slots=True)
class Sample:
    """All series at one moment, by name; `at` on a monotonic clock, in seconds.

    A name that the process does not have is None where one number is asked for: processes of several
    versions are read, and what one does not tell must not look like 0.
    """

    at: float
    series: Mapping[str, Series]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of a name's series that carry these labels; None if there are none."""
        found = list(self.matching(name, labels))
        return sum(value for _, value in found) if found else None

    def highest(self, name: str, **labels: str) -> float | None:
        return max((value for _, value in self.matching(name, labels)), default=None)

    def lowest(self, name: str, **labels: str) -> float | None:
        return min((value for _, value in self.matching(name, labels)), default=None)

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The sums by the values of one label."""
        sums: dict[str, float] = {}
        for own, value in self.matching(name, labels):
            key = dict(own).get(label, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums

    def quantile(self, name: str, q: float, **labels: str) -> float | None:
        """A percentile of a histogram since the process started; None without observations."""
        return quantile(self.by(f"{name}_bucket", "le", **labels), q)

    def matching(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Labels, float]]:
        wanted = set(labels.items())
        for own, value in self.series.get(name, {}).items():
            if wanted.issubset(own):
                yield own, value


def parse(text: str, at: float) -> Sample:
    """A page in Prometheus's text format.

    Raises:
        ValueError: it is none.
    """
    series: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(_CREATED):
                series.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return Sample(at, series)


def quantile(buckets: Mapping[str, float], q: float) -> float | None:
    """What `histogram_quantile` makes of cumulative buckets by their `le`: linear within a bucket.

    In the last bucket, which has no upper bound, it is the highest bound there is.
    """
    ordered = sorted((math.inf if le == "+Inf" else float(le), count) for le, count in buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    rank = q * ordered[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, max(below, count)
    return lower
