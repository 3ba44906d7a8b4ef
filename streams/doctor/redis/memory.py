"""Memory: how much, how fragmented, what goes when it runs short."""

from __future__ import annotations

from typing import Final

from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.service.speed import hits_of
from streams.doctor.words import size

_GUIDE: Final = "Caching: Redis memory strategy"
_QUICK: Final = "Quick reference: Redis"


@check(
    "redis.memory",
    "memory in use, of `maxmemory`",
    target="< 80 %",
    remedy="Raise maxmemory, or shorten times to live. Without a bound the kernel ends Redis one day.",
    page="docs/runbook.md#redismemory",
    guide=_GUIDE,
)
async def memory(patient: Patient) -> Finding:
    probe = patient.redis
    used, most = probe.number("used_memory"), probe.number("maxmemory")
    if not most:
        return warning(
            f"{size(used)}, unbounded", "Set maxmemory: CONFIG SET maxmemory 2gb, and in redis.conf."
        )
    return unless(used < patient.limits.redis_memory * most, f"{size(used)} of {size(most)}")


@check(
    "redis.fragmentation",
    "resident memory against what is stored in it, from 64 MB on",
    target="< 1.5",
    remedy="CONFIG SET activedefrag yes (needs jemalloc), or restart at a quiet time.",
    guide="Troubleshooting: slow cache operations",
)
async def fragmentation(patient: Patient) -> Finding:
    probe = patient.redis
    ratio, resident = probe.number("mem_fragmentation_ratio"), probe.number("used_memory_rss")
    if resident < patient.limits.fragmented_bytes:
        return ok(f"{ratio:g} of {size(resident)}: too small to matter")
    if ratio < 0.9:
        return warning(
            f"{ratio:g}: a part of it is swapped out", "Give the machine more memory, or Redis less."
        )
    return unless(ratio < patient.limits.fragmentation, f"{ratio:g}")


@check(
    "redis.eviction-policy",
    "`maxmemory-policy`",
    target="volatile-*",
    remedy="CONFIG SET maxmemory-policy volatile-lru, and in redis.conf.",
    page="docs/servers.md#redis-7-and-8-valkey",
    guide=_QUICK,
)
async def eviction_policy(patient: Patient) -> Finding:
    policy = str(patient.redis.info.get("maxmemory_policy", ""))
    if not policy:
        return unknown("not told")
    if policy.startswith("allkeys"):
        return warning(f"{policy}: a held lock may be evicted, and then has two holders")
    if policy == "noeviction":
        return warning(f"{policy}: when it is full, invalidations fail and the updater pauses")
    return ok(policy)


@check(
    "redis.evictions",
    "keys evicted for want of room, of all look-ups",
    target="< 5 %",
    remedy="Raise maxmemory, or store less: every eviction is a load from PostgreSQL.",
    guide="Caching: hit/miss analysis",
)
async def evictions(patient: Patient) -> Finding:
    probe = patient.redis
    evicted = probe.number("evicted_keys")
    lookups = probe.number("keyspace_hits") + probe.number("keyspace_misses")
    if lookups < patient.limits.fewest_lookups:
        return ok("none") if not evicted else unknown(f"{evicted:.0f}, in only {lookups:.0f} look-ups")
    share = evicted / lookups
    return unless(share < patient.limits.evictions, f"{share:.2%} of {lookups:.0f} look-ups")


@check(
    "redis.hit-ratio",
    "look-ups of keys that were there, as the server counts, unless memory in front of it makes up for it",
    target="> 85 %",
    remedy="Are times to live too short, keys evicted, or invalidations broader than they need to be?",
    page="docs/caching.md",
    guide="Caching: hit/miss analysis",
)
async def hits(patient: Patient) -> Finding:
    probe = patient.redis
    found, missed = probe.number("keyspace_hits"), probe.number("keyspace_misses")
    total = found + missed
    if total < patient.limits.fewest_lookups:
        return unknown(f"only {total:.0f} look-ups so far")
    measured = f"{found / total:.1%} of {total:.0f}"
    answered, lookups = hits_of(patient.service, window=False)
    if answered is not None and lookups >= patient.limits.fewest_lookups and answered > patient.limits.hits:
        return ok(f"{measured}; {answered:.1%} with memory in front")
    return unless(found / total > patient.limits.hits, measured)


@check(
    "redis.persistence",
    "the append-only file, and whether the last write to disk succeeded",
    target="on, and writing",
    remedy="appendonly yes, appendfsync everysec; look at the disk and at the server's log.",
    page="docs/servers.md#redis-7-and-8-valkey",
    guide=_QUICK,
)
async def persistence(patient: Patient) -> Finding:
    info = patient.redis.info
    failed = [
        what
        for name, what in (
            ("aof_last_write_status", "the append-only file"),
            ("aof_last_bgrewrite_status", "its rewriting"),
            ("rdb_last_bgsave_status", "the snapshot"),
        )
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        return critical(f"failed: {', '.join(failed)}")
    return unless(
        bool(info.get("aof_enabled")), "appendonly yes" if info.get("aof_enabled") else "appendonly no"
    )


@check(
    "redis.append-fsync",
    "`appendfsync`",
    target="everysec",
    remedy="CONFIG SET appendfsync everysec: `always` costs every write a disk's time, `no` up "
    "to 30 seconds of data.",
    page="docs/servers.md#redis-7-and-8-valkey",
    guide=_QUICK,
)
async def append_fsync(patient: Patient) -> Finding:
    value = await patient.redis.config("appendfsync")
    return unless(value == "everysec", value)
