"""The server: how fast it answers, who is connected, with which rights."""

from __future__ import annotations

import statistics
import time
from typing import Final

from streams.doctor.judging import clock_finding, link_finding
from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.words import duration

_SLOW: Final = "Troubleshooting: slow cache operations"
_QUICK: Final = "Quick reference: Redis"
_PINGS: Final = 20


@check(
    "redis.latency",
    "the median of 20 PINGs from here, the network included",
    target="< 10 ms",
    remedy="Look at redis.slow-log and redis.events; is Redis swapping, or far away?",
    guide=_SLOW,
)
async def latency(patient: Patient) -> Finding:
    times = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await patient.redis.call("PING")
        times.append((time.perf_counter() - started) * 1000)
    median = statistics.median(times)  # the slowest would mostly be ours: other checks share this loop
    measured = f"{median:.2g} ms"
    if median > patient.limits.slow_ping_ms:
        return critical(measured)
    return unless(median < patient.limits.ping_ms, measured)


@check(
    "redis.slow-log",
    "commands of the last hour that took 10 ms and longer, by name alone",
    target="none",
    remedy="KEYS, large values, long scripts: find the caller. Arguments: SLOWLOG GET, on the server.",
    guide=_SLOW,
)
async def slow_log(patient: Patient) -> Finding:
    entries = await patient.redis.call("SLOWLOG GET", 128)
    since = time.time() + (patient.redis.clock_ahead or 0.0) - 3600
    slow = [e for e in entries if e["start_time"] >= since and e["duration"] >= 10_000]
    if not slow:
        return ok("none")
    names = sorted({str(_text(e["command"])).split(" ")[0].upper()[:20] for e in slow})
    worst = max(e["duration"] for e in slow) / 1e6
    return warning(f"{len(slow)}, up to {duration(worst)}: {', '.join(names)}")


@check(
    "redis.slow-log-threshold",
    "`slowlog-log-slower-than`",
    target="1 … 10 ms",
    remedy="CONFIG SET slowlog-log-slower-than 10000: without it nobody knows what stalls Redis.",
    page="docs/servers.md#redis-7-and-8-valkey",
    guide=_QUICK,
)
async def slow_log_threshold(patient: Patient) -> Finding:
    value = int(await patient.redis.config("slowlog-log-slower-than") or -1)
    return unless(1000 <= value <= 10_000, "off" if value < 0 else f"{value / 1000:g} ms")


@check(
    "redis.events",
    "latency events that Redis itself has noted (fork, eviction, disk), the worst of each",
    target="< 100 ms",
    remedy="LATENCY DOCTOR on the server explains them. Forks: switch transparent huge pages off.",
    guide=_SLOW,
)
async def events(patient: Patient) -> Finding:
    found = [(_text(e[0]), int(e[3])) for e in await patient.redis.call("LATENCY LATEST")]
    slow = [(name, worst) for name, worst in found if worst > patient.limits.slow_ping_ms]
    shown = ", ".join(f"{name} {worst} ms" for name, worst in slow or found)
    return unless(not slow, shown or "none")


@check(
    "redis.clients",
    "connections, of `maxclients`, and whether some were refused",
    target="< 80 %, none refused",
    remedy="Close what is idle (timeout 300), fewer or smaller pools, or a higher maxclients.",
    guide="Baseline: connection pool usage",
)
async def clients(patient: Patient) -> Finding:
    probe = patient.redis
    connected, most = probe.number("connected_clients"), probe.number("maxclients")
    refused = probe.number("rejected_connections")
    measured = f"{connected:.0f} of {most:.0f}" + (f", {refused:.0f} refused" if refused else "")
    return unless(not refused and (not most or connected < patient.limits.connections * most), measured)


@check(
    "redis.idle-timeout",
    "`timeout`: when idle connections are closed",
    target="60 s … 1 h",
    remedy="CONFIG SET timeout 300: what vanished clients left is else kept for ever.",
    page="docs/servers.md#redis-7-and-8-valkey",
    guide=_QUICK,
)
async def idle_timeout(patient: Patient) -> Finding:
    value = int(await patient.redis.config("timeout") or 0)
    return unless(60 <= value <= 3600, duration(value) if value else "never")


@check(
    "redis.role",
    "whether REDIS_URL leads to a master",
    target="master",
    remedy="Name the master, or what fails over to it: on a replica no cache is filled and none invalidated.",
)
async def role(patient: Patient) -> Finding:
    found = str(patient.redis.info.get("role", "?"))
    return ok(found) if found == "master" else critical(found)


@check(
    "redis.version",
    "the server's version",
    target="Redis ≥ 7, or Valkey",
    remedy="Upgrade: rights by key (%W~) came with 7.",
)
async def version(patient: Patient) -> Finding:
    info = patient.redis.info
    if "valkey_version" in info:
        return ok(f"Valkey {info['valkey_version']}")
    shown = str(info.get("redis_version", "0"))
    return unless(int(shown.split(".", maxsplit=1)[0]) >= 7, shown)


@check(
    "redis.users",
    "the users that our updater and API are connected as",
    target="not the default",
    remedy="Give each process its user of infra/redis/users.acl, which can do what it must and no more.",
    page="docs/security.md#redis",
)
async def users(patient: Patient) -> Finding:
    found = {
        (client["name"], client.get("user", "?"))
        for client in await patient.redis.call("CLIENT LIST")
        if client.get("name") in ("streams-updater", "streams-api")
    }
    if not found:
        return unknown("no process of ours is connected")
    shown = ", ".join(f"{name} as {user}" for name, user in sorted(found))
    return unless(all(user != "default" for _, user in found), shown)


@check(
    "redis.clock",
    "the server's clock against ours",
    target="< 1 s apart",
    remedy="Run NTP (chrony) on both.",
)
async def clock(patient: Patient) -> Finding:
    ahead = patient.redis.clock_ahead
    if ahead is None:
        return unknown("not told by this version")
    return clock_finding(patient, ahead, resolution=patient.redis.clock_doubt)


@check(
    "redis.tls",
    "whether the URL asks for TLS, where the server is another machine",
    target="TLS, or loopback",
    remedy="Use rediss:// in REDIS_URL.",
    page="docs/security.md#links",
)
async def link(patient: Patient) -> Finding:
    return link_finding(secure=patient.redis.uses_tls, local=patient.redis.is_local)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
