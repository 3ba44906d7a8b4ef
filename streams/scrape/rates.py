"""What happened between two readings of one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streams.scrape.sample import Labels, Sample, Series, quantile

_START: Final = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Change:
    """The difference of two samples; counters that began anew count from 0.

    So a process that was restarted shows what it has done since: never less than nothing, and never its
    whole life in one moment, since it has not lived longer than between the two.
    """

    before: Sample
    after: Sample

    @property
    def seconds(self) -> float:
        return max(self.after.at - self.before.at, 1e-9)

    @property
    def restarted(self) -> bool:
        return self.before.total(_START) != self.after.total(_START)

    def increase(self, name: str, **labels: str) -> float | None:
        """How much a counter grew, over all series with these labels; None if there are none."""
        found = dict(self.after.matching(name, labels))
        return sum(self._grown(name, found).values()) if found else None

    def rate(self, name: str, **labels: str) -> float | None:
        """Per second."""
        grown = self.increase(name, **labels)
        return None if grown is None else grown / self.seconds

    def rates(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Per second, by the values of one label."""
        sums: dict[str, float] = {}
        for own, grown in self._grown(name, dict(self.after.matching(name, labels))).items():
            key = dict(own).get(label, "")
            sums[key] = sums.get(key, 0.0) + grown / self.seconds
        return sums

    def quantile(self, name: str, q: float, **labels: str) -> float | None:
        """A percentile of what was observed between the samples; None if nothing was."""
        return quantile(self.buckets(name, **labels), q)

    def buckets(self, name: str, **labels: str) -> dict[str, float]:
        """Cumulative counts by `le` of what was observed between the samples."""
        sums: dict[str, float] = {}
        grown = self._grown(f"{name}_bucket", dict(self.after.matching(f"{name}_bucket", labels)))
        for own, count in grown.items():
            le = dict(own)["le"]
            sums[le] = sums.get(le, 0.0) + count
        return sums

    def mean(self, name: str, **labels: str) -> float | None:
        """The mean of what a histogram observed between the samples."""
        count = self.increase(f"{name}_count", **labels)
        return (self.increase(f"{name}_sum", **labels) or 0.0) / count if count else None

    def _grown(self, name: str, now: Series) -> Mapping[Labels, float]:
        then: Series = {} if self.restarted else self.before.series.get(name, {})
        return {
            own: value - then.get(own, 0.0) if value >= then.get(own, 0.0) else value
            for own, value in now.items()
        }
