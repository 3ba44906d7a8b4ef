"""Processes: there, ready, stable in memory, losing nothing."""

from __future__ import annotations

from typing import Final

from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.service.probe import Service
from streams.doctor.words import duration, size
from streams.scrape.local import ROLES
from streams.watch import escaped

_HELP: Final = (
    "Name them: --worker, --updater and --api, or STREAMS_WORKER_URLS, ..._UPDATER_URLS, ..._API_URLS."
)
_OPERATIONS: Final = "docs/operations.md"


def _silent(service: Service, *roles: str) -> Finding | None:
    """Why nothing can be said of these roles."""
    if service.samples(*roles):
        return None
    return unknown(f"no {' or '.join(roles) or 'process'} answers", _HELP)


@check(
    "service.processes",
    "whether a worker, an updater and the read API answer at /metrics",
    target="one of each",
    remedy=_HELP,
    page="docs/runbook.md#rolemissing",
)
async def processes(patient: Patient) -> Finding:
    service = patient.service
    if not service.targets:
        return unknown("none is named, and none was found on this machine", _HELP)
    down = [f"{r.target.role} {r.target.name}: {r.trouble}" for r in service.after if r.sample is None]
    lacking = [role for role in ROLES if not service.samples(role)]
    if down or lacking:
        told = "; ".join(down) or f"no {', no '.join(lacking)}"
        return critical(told) if not service.samples("worker") or down else warning(told)
    counts = [f"{len(service.samples(role))} {role}" for role in ROLES]
    return ok(", ".join(counts))


@check(
    "service.ready",
    "/readyz of every process, and what it says is wrong",
    target="all ready",
    remedy="It goes on by itself once what it names is repaired.",
    page="docs/runbook.md#notready",
)
async def ready(patient: Patient) -> Finding:
    if silent := _silent(patient.service):
        return silent
    told = []
    for reading in patient.service.after:
        if reading.sample is not None and not reading.ready:
            why = "; ".join(f"{name}: {what}" for name, what in (reading.troubles or {}).items())
            told.append(f"{reading.target.role} {reading.target.name}: {why or 'not ready'}")
    if told:
        return critical("; ".join(told)[:400])
    degraded = [r.target.name for r in patient.service.after if r.ready and r.troubles]
    return unless(not degraded, f"degraded: {', '.join(degraded)}" if degraded else "all ready")


@check(
    "service.paused",
    "queues that are not consumed because the world needs repair",
    target="none",
    remedy="/readyz says what is missing: a server, a partition, a grant.",
    page="docs/runbook.md#paused",
)
async def paused(patient: Patient) -> Finding:
    if silent := _silent(patient.service, "worker", "updater"):
        return silent
    queues = sorted(
        {
            queue
            for sample in patient.service.samples("worker", "updater")
            for queue, value in sample.by("streams_paused", "queue").items()
            if value
        }
    )
    return critical(", ".join(queues)) if queues else ok("none")


@check(
    "service.consumers",
    "consumers that our processes should have, against what the broker counts",
    target="as expected",
    remedy="The watchdog subscribes anew by itself; see docs/operations.md if it does not help.",
    page="docs/runbook.md#consumersmissing",
)
async def consumers(patient: Patient) -> Finding:
    samples = patient.service.samples("worker", "updater")
    if silent := _silent(patient.service, "worker", "updater"):
        return silent
    expected: dict[str, float] = {}
    reported: dict[str, float] = {}
    for sample in samples:
        for queue, value in sample.by("streams_consumers_expected", "queue").items():
            expected[queue] = expected.get(queue, 0) + value
        for queue, value in sample.by("streams_consumers_reported", "queue").items():
            reported[queue] = max(reported.get(queue, 0), value)
    if not any(reported.values()):
        return unknown("not compared yet", "Ask again after STREAMS_WATCHDOG_SECONDS.")
    short = [
        f"{q}: {reported[q]:.0f} of {n:.0f}" for q, n in expected.items() if q in reported and reported[q] < n
    ]
    return unless(not short, ", ".join(short) or f"{sum(expected.values()):.0f} on {len(expected)} queues")


@check(
    "service.memory-growth",
    "how fast the resident memory of each process grew in the window",
    target="< 200 MB/h",
    remedy="Watch it for an hour (--window 600, or process_resident_memory_bytes); a cache that "
    "fills grows, too.",
    page="docs/runbook.md#highmemory",
    guide="Troubleshooting: memory leak",
    late=True,
)
async def memory_growth(patient: Patient) -> Finding:
    service, limits = patient.service, patient.limits
    if silent := _silent(service):
        return silent
    resident = service.total("process_resident_memory_bytes") or 0.0
    changes = service.changes()
    if not changes:
        return unknown(f"{size(resident)} in all; no window to see growth in", "Run it with --window.")
    grown = [
        (c.after.total("process_resident_memory_bytes") or 0)
        - (c.before.total("process_resident_memory_bytes") or 0)
        for c in changes
        if not c.restarted
    ]
    most = max(grown, default=0.0)
    hourly = most / service.seconds * 3600
    # A collector's rhythm makes megabytes of noise: in a short window that is no trend.
    leaks = most > limits.growth_noise_bytes and hourly > limits.growth_bytes_per_hour
    return unless(
        not leaks,
        f"{size(resident)} in all, at most {size(max(0.0, most))} more in {duration(service.seconds)}",
    )


@check(
    "service.file-descriptors",
    "open files of each process, of those it may have",
    target="< 80 %",
    remedy="Raise `ulimit -n` (LimitNOFILE); a number that only grows is a leak.",
    guide="Baseline: resource metrics",
)
async def descriptors(patient: Patient) -> Finding:
    if silent := _silent(patient.service):
        return silent
    shares = [
        (opened / most, f"{opened:.0f} of {most:.0f}")
        for sample in patient.service.samples()
        if (opened := sample.total("process_open_fds")) is not None
        and (most := sample.total("process_max_fds"))
    ]
    if not shares:
        return unknown("not told on this platform")
    return unless(max(shares)[0] < patient.limits.node_share, max(shares)[1])


@check(
    "service.retries",
    "batches that were rolled back to run again, of all batches",
    target="< 5 %",
    remedy="Look at the reasons: 40P01 and 40001 are contention, 57014 a slow statement.",
    page="docs/runbook.md#retrieshigh",
)
async def retries(patient: Patient) -> Finding:
    service = patient.service
    if silent := _silent(service, "worker", "updater"):
        return silent
    batches, again = service.total("streams_batches_total"), service.total("streams_retries_total") or 0.0
    if not batches:
        return unknown("no batches yet")
    reasons: dict[str, float] = {}
    for sample in service.samples("worker", "updater"):
        for reason, count in sample.by("streams_retries_total", "reason").items():
            reasons[reason] = reasons.get(reason, 0) + count
    named = ", ".join(f"{reason} × {count:.0f}" for reason, count in reasons.items() if count)
    return unless(again / batches < patient.limits.retries, f"{again:.0f} of {batches:.0f} {named}".rstrip())


@check(
    "service.quarantined",
    "events that were refused, of all events",
    target="< 1 %",
    remedy="`streams dlq list` says which and why; mostly a producer breaks the contract.",
    page="docs/operations.md#dead-letters",
)
async def quarantined(patient: Patient) -> Finding:
    service = patient.service
    if silent := _silent(service, "worker", "updater"):
        return silent
    events = service.total("streams_events_total")
    if not events:
        return unknown("no events yet")
    refused = service.total("streams_events_total", outcome="quarantined") or 0.0
    return unless(refused / events < patient.limits.quarantined, f"{refused:.0f} of {events:.0f}")


@check(
    "service.spans-dropped",
    "spans that were lost on their way to the collector",
    target="none",
    remedy="Is the collector there and fast enough? Sample, or raise OTEL_BSP_MAX_QUEUE_SIZE.",
    page="docs/runbook.md#spansdropped",
)
async def spans(patient: Patient) -> Finding:
    if silent := _silent(patient.service):
        return silent
    lost = patient.service.total("streams_spans_dropped_total") or 0.0
    return unless(not lost, f"{lost:.0f}" if lost else "none")


@check(
    "service.partitions-ahead",
    "months of partitions ahead, as the workers see it",
    target="≥ 2",
    remedy="See postgres.partitions-ahead.",
    page="docs/runbook.md#partitionsrunningout",
    guide="Database: partitioning strategy",
)
async def partitions_ahead(patient: Patient) -> Finding:
    if silent := _silent(patient.service, "worker"):
        return silent
    known = [
        (value, table)
        for sample in patient.service.samples("worker")
        for table, value in sample.by("streams_partitions_ahead_months", "table").items()
    ]
    if not known:
        return unknown("not told yet")
    least, table = min(known)
    if least < 0:
        return critical(f"{table}: the current one is missing")
    return unless(least >= 2, f"{least:.0f} ({table})")


@check(
    "service.swept",
    "outbox rows that a sweeper had to publish, since the workers started",
    target="< 1 % of batches",
    remedy="Workers die between commit and publish, or the broker's confirms take longer than the grace.",
)
async def swept(patient: Patient) -> Finding:
    service = patient.service
    if silent := _silent(service, "worker"):
        return silent
    rows, batches = (
        service.total("streams_outbox_swept_total") or 0.0,
        service.total("streams_batches_total", "worker") or 0.0,
    )
    return unless(rows <= max(10.0, 0.01 * batches), f"{rows:.0f} of {batches:.0f}")


@check(
    "service.versions",
    "the version that each process tells at /metrics",
    target="one",
    remedy="Finish the release: two versions work side by side, but not for longer than it takes.",
)
async def versions(patient: Patient) -> Finding:
    if silent := _silent(patient.service):
        return silent
    found = sorted(
        {v for sample in patient.service.samples() for v in sample.by("streams_build_info", "version") if v}
    )
    return unless(len(found) <= 1, escaped(", ".join(found)) or "not told")


@check(
    "service.cache-bus",
    "whether each read API hears invalidations, without which it keeps no values in memory",
    target="heard",
    remedy="Give it AMQP_URL, and a login that may listen to `cache-bus`; until then Redis answers alone.",
    page="docs/caching.md",
    guide="Caching: L1/L2 configuration",
)
async def cache_bus(patient: Patient) -> Finding:
    if silent := _silent(patient.service, "api"):
        return silent
    heard = [sample.total("streams_cache_bus_up") for sample in patient.service.samples("api")]
    if all(up is None for up in heard):
        return unknown("not told by this version")
    deaf = sum(not up for up in heard)
    return unless(not deaf, f"{deaf} of {len(heard)} do not" if deaf else f"by {len(heard)}")


@check(
    "service.statement-errors",
    "statements that failed, of all, since the processes started",
    target="< 1 %",
    remedy="The SQLSTATEs say what: 40P01 contention, 57014 too slow, 42xxx a schema that does not fit.",
    page=_OPERATIONS,
)
async def statement_errors(patient: Patient) -> Finding:
    service = patient.service
    if silent := _silent(service):
        return silent
    total = service.total("streams_db_query_duration_seconds_count")
    if not total:
        return unknown("no statements yet")
    failed = service.total("streams_db_errors_total") or 0.0
    codes = sorted({code for s in service.samples() for code in s.by("streams_db_errors_total", "code")})
    return unless(
        failed < patient.limits.statement_errors * total,
        f"{failed:.0f} of {total:.0f} {escaped(', '.join(codes))[:60]}".rstrip(),
    )
