"""A histogram that takes a batch's values at once."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector

AGE_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
)  # fmt: skip
_BOUNDS: Final = (*(str(float(bound)) for bound in AGE_BUCKETS), "+Inf")


class Ages(Collector):
    """Ages of events in seconds.

    500 calls of `Histogram.observe` cost 0.7 ms a batch; sorting 500 ages and looking up 18 bounds in
    them costs 0.04 ms.
    """

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._examples: dict[tuple[str, ...], dict[int, Exemplar]] = {}
        registry.register(self)

    def observe(self, ages: Collection[float], *labels: str, trace_id: str | None = None) -> None:
        """Count ages in seconds. A producer's clock that is ahead makes an age of 0.

        Args:
            trace_id: of the batch: the example for its oldest event.
        """
        if not ages:
            return
        ordered = sorted(ages)
        total = sum(ordered) if ordered[0] >= 0.0 else sum(max(0.0, age) for age in ordered)
        below = [bisect_right(ordered, bound) for bound in AGE_BUCKETS]
        below.append(len(ordered))
        with self._lock:
            before = self._counts.get(labels)
            self._counts[labels] = (
                below if before is None else [a + b for a, b in zip(before, below, strict=True)]
            )
            self._sums[labels] = self._sums.get(labels, 0.0) + total
            if trace_id is not None:
                oldest = max(0.0, ordered[-1])
                bucket = below.index(len(ordered))
                self._examples.setdefault(labels, {})[bucket] = Exemplar(
                    {"trace_id": trace_id}, oldest, time.time()
                )

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = self._family()
        with self._lock:
            for labels, counts in self._counts.items():
                examples = self._examples.get(labels, {})
                buckets = [
                    (bound, count, examples.get(place))
                    for place, (bound, count) in enumerate(zip(_BOUNDS, counts, strict=True))
                ]
                family.add_metric(labels, buckets, self._sums[labels])  # type: ignore[arg-type]
        return [family]

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [self._family()]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
