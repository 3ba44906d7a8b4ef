"""Keys, from a bounded sample: large ones, eternal ones, long names."""

from __future__ import annotations

from typing import Final

from streams.doctor.model import Finding, check, ok, unless
from streams.doctor.patient import Patient
from streams.doctor.redis.probe import kinds
from streams.doctor.words import size

_GUIDE: Final = "Caching: Redis memory strategy"


@check(
    "redis.big-keys",
    "the largest of 2,000 keys, by MEMORY USAGE",
    target="< 1 MB",
    remedy="Find who writes it; split it. Reading and freeing it stalls every other client.",
    guide="Troubleshooting: slow cache operations",
)
async def big_keys(patient: Patient) -> Finding:
    sample = await patient.redis.sample(patient.limits.sampled_keys)
    if not sample:
        return ok("no keys")
    large = [key for key in sample if key.bytes >= patient.limits.big_key_bytes]
    if large:
        return unless(
            False, f"{len(large)} of {len(sample)}, up to {size(max(k.bytes for k in large))}: {kinds(large)}"
        )
    return ok(f"{size(max(key.bytes for key in sample))} of {len(sample)} keys")


@check(
    "redis.keys-without-ttl",
    "keys of the sample that never expire",
    target="none",
    remedy="Every key of ours expires. With volatile-lru others are never evicted, and fill the memory.",
    page="docs/caching.md",
    guide="Caching: TTL optimization",
)
async def eternal(patient: Patient) -> Finding:
    sample = await patient.redis.sample(patient.limits.sampled_keys)
    found = [key for key in sample if key.ttl == -1]
    return unless(
        not found, f"{len(found)} of {len(sample)}: {kinds(found)}" if found else f"none of {len(sample)}"
    )


@check(
    "redis.long-keys",
    "the names of the sample's keys",
    target="≤ 100 bytes",
    remedy="Shorten the names, as schemas/cache.py has them: digests instead of queries.",
    guide=_GUIDE,
)
async def long_keys(patient: Patient) -> Finding:
    sample = await patient.redis.sample(patient.limits.sampled_keys)
    found = [key for key in sample if len(key.name) > patient.limits.long_key_bytes]
    longest = max((len(key.name) for key in sample), default=0)
    return unless(not found, f"up to {longest} bytes" + (f": {kinds(found)}" if found else ""))
