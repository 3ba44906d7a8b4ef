"""Numbers of several processes taken together; None where no process tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from streams.scrape import Change, Sample
from streams.scrape.sample import quantile

_REQUESTS: Final = "streams_http_request_duration_seconds"


def total(samples: Iterable[Sample], name: str, **labels: str) -> float | None:
    known = [value for sample in samples if (value := sample.total(name, **labels)) is not None]
    return sum(known) if known else None


def highest(samples: Iterable[Sample], name: str, **labels: str) -> float | None:
    return max((v for s in samples if (v := s.highest(name, **labels)) is not None), default=None)


def rate(changes: Iterable[Change], name: str, **labels: str) -> float | None:
    known = [value for change in changes if (value := change.rate(name, **labels)) is not None]
    return sum(known) if known else None


def percentiles(changes: Iterable[Change], name: str, **labels: str) -> tuple[float | None, float | None]:
    buckets: dict[str, float] = {}
    for change in changes:
        for bound, count in change.buckets(name, **labels).items():
            buckets[bound] = buckets.get(bound, 0.0) + count
    return quantile(buckets, 0.5), quantile(buckets, 0.99)


def routes(changes: Iterable[Change]) -> list[str]:
    """The routes under /v1: our own readings and probes are not what the API is there for."""
    routes = {r for c in changes for r in c.after.by(f"{_REQUESTS}_count", "route")}
    return sorted(route for route in routes if route.startswith("/v1"))


def requests(changes: Sequence[Change]) -> float | None:
    if not any(f"{_REQUESTS}_count" in change.after.series for change in changes):
        return None
    return sum(rate(changes, f"{_REQUESTS}_count", route=route) or 0.0 for route in routes(changes))


def request_time(changes: Sequence[Change]) -> tuple[float | None, float | None]:
    buckets: dict[str, float] = {}
    for change in changes:
        for route in routes(changes):
            for bound, count in change.buckets(_REQUESTS, route=route).items():
                buckets[bound] = buckets.get(bound, 0.0) + count
    return quantile(buckets, 0.5), quantile(buckets, 0.99)


def failed(changes: Sequence[Change]) -> float | None:
    if requests(changes) is None:
        return None
    by_status = [change.rates(f"{_REQUESTS}_count", "status_code") for change in changes]
    return sum(rate for rates in by_status for status, rate in rates.items() if status.startswith("5"))


def hits(changes: Sequence[Change], level: str) -> float | None:
    """Hits of the look-ups that reached a level; None without any."""
    hits = rate(changes, "streams_cache_requests_total", level=level, result="hit") or 0.0
    total = rate(changes, "streams_cache_requests_total", level=level) or 0.0
    return hits / total if total else None


def hit_ratio(changes: Sequence[Change]) -> float | None:
    """A hit in memory or in Redis answers a look-up; what Redis does not have goes to PostgreSQL."""
    name = "streams_cache_requests_total"
    memory = rate(changes, name, level="l1", result="hit") or 0.0
    redis, asked = (
        rate(changes, name, level="redis", result="hit") or 0.0,
        rate(changes, name, level="redis") or 0.0,
    )
    total = memory + asked
    return (memory + redis) / total if total else None
