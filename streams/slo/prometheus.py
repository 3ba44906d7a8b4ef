"""The same numbers from a Prometheus, over a window."""

from __future__ import annotations

import math
import re
from typing import Final

import httpx

from schemas.errors import ConfigurationError
from streams.slo.measure import Measured, NothingMeasured

_TIMEOUT: Final = 30.0
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_P99: Final = "histogram_quantile(0.99, sum by (le) (rate({}_bucket{}[$window])))"
_API: Final = 'streams_http_request_duration_seconds_count{route=~"/v1/.*"'

QUERIES: Final = {
    "api_p99": _P99.format("streams_http_request_duration_seconds", '{route=~"/v1/.*"}'),
    "database_p99": _P99.format("streams_db_query_duration_seconds", ""),
    "hit_ratio": (
        'sum(rate(streams_cache_requests_total{level=~"l1|redis",result="hit"}[$window]))'
        ' / (sum(rate(streams_cache_requests_total{level=~"l1|redis",result="hit"}[$window]))'
        ' + (sum(rate(streams_cache_requests_total{level="redis",result!="hit"}[$window])) or vector(0)))'
    ),
    # The best minute: what the service did when it was asked to.
    "throughput": (
        'max_over_time(sum(rate(streams_events_total{outcome="stored",queue!~"invalidations.*"}[1m]))'
        "[$window:$step])"
    ),
    "availability": (
        f'1 - (sum(rate({_API},status_code=~"5.."}}[$window])) or vector(0)) / sum(rate({_API}}}[$window]))'
    ),
    "commit_age_p99": _P99.format("streams_event_age_at_commit_seconds", ""),
    "cache_age_p99": _P99.format("streams_event_age_at_cache_seconds", ""),
    "worker_memory": 'max(max_over_time(process_resident_memory_bytes{job=~"worker.*"}[$window]))',
}


def seconds_of(window: str) -> float:
    """As in 90s, 15m, 1h, 7d.

    Raises:
        ConfigurationError: it is none.
    """
    match = re.fullmatch(r"(\d+)([smhdw])", window)
    if match is None or int(match[1]) == 0:
        raise ConfigurationError("--window: a number and a unit, as in 15m, 1h or 7d")
    return float(int(match[1]) * _UNITS[match[2]])


async def from_prometheus(url: str, window: str) -> Measured:
    """Ask a Prometheus for the numbers of the last `window`.

    Raises:
        ConfigurationError: the window is none.
        NothingMeasured: it does not answer, or knows none of our processes.
    """
    seconds = seconds_of(window)
    step = f"{max(1, round(seconds / 600))}s"
    try:
        async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=_TIMEOUT) as client:
            processes = await _ask(client, "count(streams_build_info)")
            numbers = {
                name: await _ask(client, query.replace("$window", window).replace("$step", step))
                for name, query in QUERIES.items()
            }
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise NothingMeasured(f"Prometheus does not answer: {type(error).__name__}") from error
    if processes is None:
        raise NothingMeasured("this Prometheus knows no process of ours")
    return Measured(numbers, seconds, int(processes))


async def _ask(client: httpx.AsyncClient, query: str) -> float | None:
    """The one number of a query; None where there is none, or none that means something (0 / 0)."""
    answer = await client.get("/api/v1/query", params={"query": query})
    answer.raise_for_status()
    result = answer.json()["data"]["result"]
    value = float(result[0]["value"][1]) if result else math.nan
    return value if math.isfinite(value) else None
