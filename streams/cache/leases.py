"""Leases and stamps in Redis: one round trip each for look, acquire, fill, release, claim and replace.

Scripts go as EVAL: they are short, Redis keeps them compiled by their digest, and a restarted or
failed-over server needs no second trip for a script that it has lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streams.cache.entry import (
    REFRESH_AT,
    TIME_BYTES,
    TOKEN_BYTES,
    Entry,
    Lease,
    encode_time,
    new_token,
    stamps_of,
)
from streams.cache.link import Command, Link

# A value is replaced only by somebody who has seen it and found it dead. The first comparison is for a
# command that the client sent twice because its connection broke.
_ACQUIRE: Final = f"""
local held = redis.call('GET', KEYS[1])
if held then
    local token = string.sub(held, 2, {TOKEN_BYTES + 1})
    if token ~= string.sub(ARGV[1], 2, {TOKEN_BYTES + 1}) and token ~= ARGV[2] then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return false
"""
_FILL: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_RELEASE: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
# Whoever moves the time of an entry's refresh is the one who loads it anew.
_CLAIM: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
if redis.call('GETRANGE', KEYS[1], {REFRESH_AT}, {REFRESH_AT + TIME_BYTES - 1}) ~= ARGV[2] then return 0 end
redis.call('SETRANGE', KEYS[1], {REFRESH_AT}, ARGV[3])
return 1
"""
# No invalidation of the key can have come while the entry stands that was there before the load.
_REPLACE: Final = f"""
if redis.call('GETRANGE', KEYS[1], 1, {TOKEN_BYTES}) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

Stamps = tuple[bytes, ...]
Seen = tuple[bytes | None, ...]


def tag_key(tag: str) -> str:
    return f"tag:{tag}"


class Leases:
    """The commands of the protocol. Every method raises what `Link` raises."""

    def __init__(self, link: Link, *, lease_ms: int) -> None:
        self._link = link
        self._lease_ms = lease_ms

    async def look(self, key: str, tags: Sequence[str]) -> tuple[bytes | None, Seen, bytes]:
        """What stands under the key, the present stamps of the tags, and the epoch of the key's server.

        GETEX and not GET: a server that takes no writes (a master that was demoted, or cut off from the
        replicas that it must have) refuses it, and hears of no invalidation, either.
        """
        (raw, epoch), *stamps = await self._link.ask(
            ("GETEX", key), *(("GETEX", tag_key(tag)) for tag in tags)
        )
        return raw, stamps_of(stamps), epoch

    async def acquire(
        self, key: str, tags: Sequence[str], stamps: Seen, epoch: bytes, dead: bytes, ttl_ms: int
    ) -> tuple[Lease, Stamps, bool]:
        """Take the lease, unless the key holds something else than what was seen to be dead.

        Stamps that are missing are made first: never from a fixed value, which an entry of before the
        loss might hold.

        Args:
            epoch: of the server where the key was seen.

        Returns:
            Our lease, the stamps, and whether we have it: not if the key or a tag is with another server
            by now, or somebody else was faster.
        """
        lease = Lease(new_token(), epoch)
        missing = [tag for tag, stamp in zip(tags, stamps, strict=True) if stamp is None]
        fresh = [new_token() for _ in missing]
        commands: list[Command] = [
            ("SET", tag_key(tag), stamp, "NX", "GET", "PX", ttl_ms)
            for tag, stamp in zip(missing, fresh, strict=True)
        ]
        commands.append(("EVAL", _ACQUIRE, 1, key, lease.encode(), dead, self._lease_ms))
        *made, (held, answered) = await self._link.ask(*commands)
        new = iter(
            (stamp if other is None else other) + at for stamp, (other, at) in zip(fresh, made, strict=True)
        )
        complete = tuple(next(new) if stamp is None else stamp for stamp in stamps)
        return lease, complete, held is None and answered == epoch

    async def fill(self, key: str, lease: Lease, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        """Store a value if the lease still stands; whether it did."""
        return await self._store((_FILL, 1, key, lease.encode()), tags, entry, ttl_ms)

    async def replace(self, key: str, token: bytes, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        """Store a value if the entry of this token still stands; whether it did."""
        return await self._store((_REPLACE, 1, key, token), tags, entry, ttl_ms)

    async def claim(self, key: str, entry: Entry, until: int) -> bool:
        """Be the only one to refresh an entry until then; whether we are."""
        seen, moved = encode_time(entry.refresh), encode_time(until)
        ((claimed, epoch),) = await self._link.ask(("EVAL", _CLAIM, 1, key, entry.token, seen, moved))
        return bool(claimed) and epoch == entry.epoch

    def claim_until(self, now: int) -> int:
        """When others may claim a refresh that is claimed now and then not carried out."""
        return now + self._lease_ms

    async def release(self, key: str, token: bytes) -> None:
        """Remove the lease or the entry of this token."""
        await self._link.ask(("EVAL", _RELEASE, 1, key, token))

    async def forget(self, names: Sequence[str]) -> None:
        """Take away values, leases and stamps."""
        await self._link.unlink(names)

    async def _store(self, condition: Command, tags: Sequence[str], entry: Entry, ttl_ms: int) -> bool:
        (stored, epoch), *_ = await self._link.ask(
            ("EVAL", *condition, entry.encode(), ttl_ms),
            # A stamp lives as long as the longest of its entries.
            *(("PEXPIRE", tag_key(tag), ttl_ms, "GT") for tag in tags),
        )
        return bool(stored) and epoch == entry.epoch
