"""The metrics that exist: ours from the registry, the exporters' from a list."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase

from streams.telemetry import Metrics
from streams.telemetry.ages import Ages


def catalogue(metrics: Metrics) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels of each metric of ours, by its name as Prometheus stores it."""
    found = {}
    for collector in set(metrics.registry._names_to_collectors.values()):
        match collector:
            case MetricWrapperBase():
                kind, labels = collector._type, tuple(collector._labelnames)
                [family] = collector.describe()
            case Ages():
                [family] = collector.describe()
                kind, labels = "histogram", collector._labels
            case _:
                continue
        found[family.name + ("_total" if kind == "counter" else "")] = (kind, labels)
    return found


def series_of(metrics: Metrics) -> dict[str, frozenset[str]]:
    """Labels by the names of series, as a query names them: histograms in their three parts."""
    found: dict[str, frozenset[str]] = {}
    for name, (kind, labels) in catalogue(metrics).items():
        if kind == "histogram":
            found[f"{name}_bucket"] = frozenset({*labels, "le"})
            found[f"{name}_sum"] = found[f"{name}_count"] = frozenset(labels)
        else:
            found[name] = frozenset(labels)
    return found
