"""The read API, by real requests: compression, pages, sizes, tokens, limits."""

from __future__ import annotations

import email.utils
from typing import Any, Final
from urllib.parse import urlsplit

from streams import tls
from streams.doctor.judging import clock_finding
from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.service.probe import Answer
from streams.doctor.words import duration, size
from streams.settings import Profile

_DOCUMENT: Final = "/schema/openapi.json"
_LARGEST: Final = "/v1/tasks?limit=100"
_TOO_MANY: Final = "/v1/tasks?limit=101"
_LIMIT_HEADERS: Final = ("ratelimit", "ratelimit-limit", "x-ratelimit-limit", "ratelimit-policy")
_NO_API: Final = "no read API answers"
_NO_TOKEN: Final = unknown("the API asks for a token", "Set STREAMS_API_TOKEN to a session's token.")


@check(
    "service.compression",
    "whether a large answer comes compressed to whoever asks for it",
    target="gzip",
    remedy="Is there a proxy in between that drops Accept-Encoding? The API compresses from 1 KB on.",
    guide="API: compression strategy",
)
async def compression(patient: Patient) -> Finding:
    answer = await patient.service.ask(_DOCUMENT, compressed=True, authorized=False)
    if answer is None:
        return unknown(_NO_API)
    if answer.status != 200:
        return unknown(f"{_DOCUMENT} answers {answer.status}")
    how = answer.headers.get("content-encoding", "none")
    sent = answer.headers.get("content-length")
    shown = f"{how}, {size(answer.size)}" + (f" in {size(float(sent))}" if sent and sent.isdigit() else "")
    return unless(how in ("gzip", "br", "zstd", "deflate"), shown)


@check(
    "service.pagination",
    "whether a page of 101 rows is refused; without a token, what the API's document says of `limit`",
    target="≤ 100 rows",
    remedy="Bound `limit`: one request must not read a table.",
    guide="API: pagination optimization",
)
async def pagination(patient: Patient) -> Finding:
    answer = await patient.service.ask(_TOO_MANY)
    if answer is None:
        return unknown(_NO_API)
    if answer.status not in (401, 403):
        return unless(answer.status == 400, f"limit=101 answers {answer.status}")
    most = _declared_limit(await patient.service.document())
    if most is None:
        return _NO_TOKEN
    return unless(most <= 100, f"{most:g} rows by the API's document")


def _declared_limit(document: dict[str, Any]) -> float | None:
    """The largest `limit` of a page of tasks."""
    parameters = ((document.get("paths") or {}).get("/v1/tasks") or {}).get("get", {}).get("parameters") or []
    for parameter in parameters:
        if parameter.get("name") == "limit":
            most = (parameter.get("schema") or {}).get("maximum")
            return float(most) if isinstance(most, int | float) else None
    return None


@check(
    "service.response-size",
    "the largest page of tasks, uncompressed",
    target="< 1 MB",
    remedy="Let clients ask for fewer fields (?fields=) or shorter pages.",
    guide="Checklist: API response payloads < 1 MB",
)
async def response_size(patient: Patient) -> Finding:
    answer = await patient.service.ask(_LARGEST)
    if answer is None:
        return unknown(_NO_API)
    if answer.status in (401, 403):
        return _NO_TOKEN
    if answer.status != 200:
        return unknown(f"{_LARGEST} answers {answer.status}")
    return unless(
        answer.size < patient.limits.response_bytes, f"{size(answer.size)} in {duration(answer.seconds)}"
    )


@check(
    "service.rate-limit",
    "whether an answer under /v1 carries the headers of a rate limit",
    target="RateLimit headers, or loopback",
    remedy="Set STREAMS_API_RATE=50 (the guide's; it is the default unless STREAMS_API_OPEN is set).",
    guide="System architecture: API layer",
)
async def rate_limit(patient: Patient) -> Finding:
    answer = await patient.service.ask(_LARGEST)
    if answer is None:
        return unknown(_NO_API)
    found = [f"{name}: {answer.headers[name]}" for name in _LIMIT_HEADERS if name in answer.headers]
    if found:
        return ok(found[0][:60])
    if answer.status in (401, 403):
        return _NO_TOKEN
    api = patient.service.api
    host = urlsplit(api.url).hostname or "" if api else ""
    return ok("none, on loopback only") if tls.is_loopback(host) else warning("no such header")


@check(
    "service.tokens",
    "whether /v1 answers without a bearer token",
    target="401, or loopback",
    remedy="Unset STREAMS_API_OPEN: everybody who reaches the port reads everything.",
    page="docs/security.md#whom-we-expect",
)
async def tokens(patient: Patient) -> Finding:
    answer: Answer | None = await patient.service.ask(_LARGEST, authorized=False)
    api = patient.service.api
    if answer is None or api is None:
        return unknown(_NO_API)
    if answer.status in (401, 403):
        return ok(f"asks for one ({answer.status})")
    host = urlsplit(api.url).hostname or ""
    return ok("open, on loopback only") if tls.is_loopback(host) else critical(f"open on {api.name}")


@check(
    "service.api-tls",
    "whether processes on other machines are reached by TLS",
    target="https, or loopback",
    remedy="Put a proxy with TLS in front of the API, and keep /metrics inside.",
    page="docs/security.md#links",
)
async def api_tls(patient: Patient) -> Finding:
    if not patient.service.targets:
        return unknown("none is named, and none was found on this machine")
    bare = [
        target
        for target in patient.service.targets
        if urlsplit(target.url).scheme == "http" and not tls.is_loopback(urlsplit(target.url).hostname or "")
    ]
    if not bare:
        return ok("https, or loopback")
    named = ", ".join(target.name for target in bare[:4])
    return (critical if any(t.role == "api" for t in bare) else warning)(f"plaintext: {named}")


@check(
    "service.failures",
    "answers with a status of 500 and above, of all since the API started",
    target="< 0.1 %",
    remedy="Read the API's log; 503 says that the database did not answer.",
    guide="Key performance goals: availability 99.9 %",
)
async def failures(patient: Patient) -> Finding:
    name = "streams_http_request_duration_seconds_count"
    total, failed = 0.0, 0.0
    for sample in patient.service.samples("api"):
        for status, count in sample.by(name, "status_code").items():
            total += count
            failed += count if status.startswith("5") else 0.0
    if not total:
        return unknown("no requests yet")
    return unless(failed <= patient.limits.failures * total, f"{failed:.0f} of {total:.0f}")


@check(
    "service.timeouts",
    "the time limits of our settings: connecting, statements, queries, shutdown",
    target="all set",
    remedy="Choose STREAMS_PROFILE: each of the three has limits.",
    guide="Checklist: connection timeout configured",
)
async def timeouts(patient: Patient) -> Finding:
    pool = patient.settings.pool
    limits = (
        pool.connect_timeout,
        pool.statement_timeout,
        pool.query_timeout,
        patient.settings.shutdown_seconds,
    )
    return unless(
        all(limit > 0 for limit in limits),
        "connect {:g} s, statement {:g} s, query {:g} s, stop {:g} s".format(*limits),
    )


@check(
    "service.profile",
    "STREAMS_PROFILE as set here, where the servers are other machines",
    target="production",
    remedy="Set STREAMS_PROFILE=production: it sizes the pools, and refuses plaintext links.",
    guide="Quick reference: production environment",
)
async def profile(patient: Patient) -> Finding:
    chosen = patient.settings.profile
    remote = patient.database is not None and not patient.postgres.is_local
    return unless(not remote or chosen is not Profile.DEVELOPMENT, str(chosen))


@check(
    "service.logging",
    "STREAMS_LOG_LEVEL as set here: at INFO no line is written for an event",
    target="INFO or above",
    remedy="Unset STREAMS_LOG_LEVEL: DEBUG writes lines for every batch, and libraries theirs "
    "for every frame.",
    page="docs/telemetry.md#logs",
    guide="Checklist: logging overhead < 5 %",
)
async def logging(patient: Patient) -> Finding:
    level = patient.settings.log_level.upper()
    return unless(level not in ("DEBUG", "NOTSET", "TRACE"), level)


@check(
    "service.clock",
    "the clock of the read API's machine, by its Date header (to within a second)",
    target="< 1 s apart",
    remedy="Run NTP (chrony) on both.",
)
async def clock(patient: Patient) -> Finding:
    answer = await patient.service.ask(_DOCUMENT, compressed=True, authorized=False)
    if answer is None:
        return unknown(_NO_API)
    if not (stamp := answer.headers.get("date")):
        return unknown("it sends no Date header")
    told = email.utils.parsedate_to_datetime(stamp).timestamp() + 0.5
    return clock_finding(patient, told - answer.at, resolution=0.5 + answer.seconds)
