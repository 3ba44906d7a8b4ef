"""The guide's goals: percentiles, hit ratio, throughput, N+1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from streams.doctor.model import Finding, check, ok, unknown, unless
from streams.doctor.patient import NotThere, Patient
from streams.doctor.service.probe import Service
from streams.doctor.words import duration
from streams.telemetry.sql import summarize
from streams.watch import escaped

_GOALS: Final = "Key performance goals"
_PAGE: Final = "docs/performance.md"
_QUERIES: Final = "streams_db_query_duration_seconds"
_REQUESTS: Final = "streams_http_request_duration_seconds"
_SMALL: Final = 10


def _within(
    service: Service, name: str, most: float, *roles: str, each: Sequence[Mapping[str, str]] = ({},)
) -> Finding:
    found = service.quantile(name, 0.99, *roles, each=each)
    if found is None:
        return unknown("nothing was observed yet")
    return unless(found[0] < most, f"{duration(found[0])} {found[1]}")


@check(
    "service.api-p99",
    "the 99th percentile of the read API's answers under /v1",
    target="< 500 ms",
    remedy="Which route? See streams_http_request_duration_seconds; then service.hit-ratio, slow statements.",
    page="docs/runbook.md#highresponsetime",
    guide=_GOALS,
    late=True,
)
async def api_p99(patient: Patient) -> Finding:
    routes = [{"route": route} for route in patient.service.routes()]
    return _within(patient.service, _REQUESTS, patient.limits.api_p99, "api", each=routes)


@check(
    "service.database-p99",
    "the 99th percentile of statements; of whole transactions where statements are not measured",
    target="< 100 ms",
    remedy="See postgres.slow-statements and postgres.lock-waits; a batch of less than 500 is quicker.",
    page="docs/runbook.md#slowdatabasequeries",
    guide=_GOALS,
    late=True,
)
async def database_p99(patient: Patient) -> Finding:
    service, most = patient.service, patient.limits.database_p99
    if service.quantile(_QUERIES, 0.99) is not None:
        return _within(service, _QUERIES, most)
    found = _within(service, "streams_stage_seconds", most, "worker", each=[{"stage": "transaction"}])
    return Finding(
        found.verdict, f"{found.measured} (transactions)" if found.measured[0].isdigit() else found.measured
    )


@check(
    "service.event-age",
    "the 99th percentile of the events' ages at their commit",
    target="< 1 s",
    remedy="Is there a backlog (rabbitmq.backlog)? Else lower STREAMS_BATCH_LINGER_MS, or add workers.",
    page="docs/runbook.md#eventagegrowing",
    guide="Baseline: message processing time",
    late=True,
)
async def event_age(patient: Patient) -> Finding:
    return _within(
        patient.service, "streams_event_age_at_commit_seconds", patient.limits.event_age_p99, "worker"
    )


@check(
    "service.cache-age",
    "the 99th percentile of the invalidations' ages at their effect in Redis",
    target="< 2 s",
    remedy="Is the updater behind (rabbitmq.backlog), or Redis slow (redis.latency)?",
    page="docs/runbook.md#invalidationlag",
    late=True,
)
async def cache_age(patient: Patient) -> Finding:
    return _within(
        patient.service, "streams_event_age_at_cache_seconds", patient.limits.cache_age_p99, "updater"
    )


@check(
    "service.hit-ratio",
    "look-ups that a cache level answered, of all: in the window, or since the start",
    target="> 85 %",
    remedy="By level and route: which keys miss? Longer times to live, narrower invalidations, warming.",
    page="docs/runbook.md#lowcachehitrate",
    guide=_GOALS,
    late=True,
)
async def hit_ratio(patient: Patient) -> Finding:
    service = patient.service
    for ratio, total, when in (
        (*hits_of(service, window=True), "in the window"),
        (*hits_of(service, window=False), "since the start"),
    ):
        if ratio is not None and total >= patient.limits.fewest_lookups:
            return unless(ratio > patient.limits.hits, f"{ratio:.1%} of {total:.0f} {when}")
    total = hits_of(service, window=False)[1]
    return unknown(f"only {total:.0f} look-ups so far")


def hits_of(service: Service, *, window: bool) -> tuple[float | None, float]:
    """A hit in memory or in Redis answers a look-up; what Redis does not have goes to PostgreSQL."""
    count = service.increase if window else service.total
    name = "streams_cache_requests_total"
    memory = count(name, level="l1", result="hit") or 0.0
    redis, asked = count(name, level="redis", result="hit") or 0.0, count(name, level="redis") or 0.0
    total = memory + asked
    return ((memory + redis) / total if total else None), total


@check(
    "service.throughput",
    "events stored each second in the window, where more are waiting",
    target="> 1,000/s, or no backlog",
    remedy="Add workers or lanes; see streams_stage_seconds for where the time goes.",
    page=_PAGE,
    guide=_GOALS,
    late=True,
)
async def throughput(patient: Patient) -> Finding:
    stored = patient.service.increase("streams_events_total", "worker", outcome="stored")
    if stored is None:
        return unknown("no worker was read twice")
    rate = stored / max(patient.service.seconds, 1e-9)
    try:
        waiting = sum(
            q.get("messages_ready", 0) for q in patient.rabbitmq.ours() if q["name"] != "quarantine"
        )
    except NotThere:
        return (
            ok(f"{rate:,.0f}/s")
            if rate > patient.limits.events_per_second
            else unknown(f"{rate:,.0f}/s; whether more waits is not known")
        )
    busy = waiting > patient.settings.prefetch
    return unless(not busy or rate > patient.limits.events_per_second, f"{rate:,.0f}/s, {waiting} waiting")


@check(
    "service.n-plus-one",
    "how often the busiest statement ran for each request and each batch in the window",
    target="< 10",
    remedy="Fetch the rows of a page with one statement (= ANY($1), a join), not with one for each row.",
    guide="API: N+1 problem detection",
    late=True,
)
async def n_plus_one(patient: Patient) -> Finding:
    service, limits = patient.service, patient.limits
    units = _units(service)
    if units < _SMALL:
        return unknown(
            f"only {units:.0f} requests and batches in the window", "Run it under load, with --window 30."
        )
    calls = _own_statements(service)
    if patient.database is not None and patient.postgres.has_statements and patient.postgres.sees_all:
        probe = patient.postgres
        for queryid, (count, text) in (await probe.statements_now()).items():
            calls.append((count - probe.before.get(queryid, (0, ""))[0], summarize(text).text))
    if not calls:
        return unknown("statements are not counted", "See postgres.statement-statistics.")
    busiest, name = max(calls)
    return unless(busiest / units < limits.statements_per_unit, f"{busiest / units:.2g} × {name[:50]}")


def _own_statements(service: Service) -> list[tuple[float, str]]:
    """How often each statement ran in the window, as our processes count them."""
    name = f"{_QUERIES}_count"
    named = {label for sample in service.samples() for label in sample.by(name, "statement")}
    return [(service.increase(name, statement=label) or 0.0, escaped(label)) for label in named]


def _units(service: Service) -> float:
    """Pieces of work in the window: requests under /v1, batches, and retries of batches."""
    counts = (service.increase(f"{_REQUESTS}_count", "api", route=route) for route in service.routes())
    requests = sum(count or 0.0 for count in counts)
    batches = service.increase("streams_batches_total", "worker") or 0.0
    return requests + batches + (service.increase("streams_retries_total", "worker") or 0.0)


@check(
    "service.pool-utilisation",
    "connections of each pool that are in use, of the most it may open",
    target="< 80 %",
    remedy="See postgres.slow-statements and postgres.lock-waits first; then STREAMS_PROFILE, or "
    "more processes.",
    page="docs/runbook.md#connectionpoolexhaustion",
    guide="Checklist: connection pool utilization < 80 %",
    late=True,
)
async def pool_utilisation(patient: Patient) -> Finding:
    shares = []
    readings = [*patient.service.before, *patient.service.after]
    for sample in (reading.sample for reading in readings if reading.sample is not None):
        size, idle = sample.total("streams_db_pool_size"), sample.total("streams_db_pool_idle")
        most = sample.total("streams_db_pool_max") or float(patient.settings.pool.max_size)
        if size:
            shares.append(((size - (idle or 0.0)) / most, f"{size - (idle or 0.0):.0f} of {most:.0f}"))
    if not shares:
        return unknown("no process tells")
    return unless(max(shares)[0] < patient.limits.pool_use, max(shares)[1])
