"""Leases and stamps in Redis: one round trip each for look, acquire, fill and release.

Scripts go as EVAL: they are short, Redis keeps them compiled by their digest, and a restarted or
failed-over server needs no second trip for a script that it has lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from streams.cache.entry import TOKEN_BYTES, encode, new_token

# A value is replaced only by somebody who has seen it and found it dead. The first comparison is for a
# command that the client sent twice because its connection broke.
_ACQUIRE: Final = f"""
local held = redis.call('GET', KEYS[1])
if held then
    local token = string.sub(held, 2, {TOKEN_BYTES + 1})
    if token ~= ARGV[1] and token ~= ARGV[2] then return held end
end
redis.call('SET', KEYS[1], 'L' .. ARGV[1], 'PX', ARGV[3])
return false
"""
_FILL: Final = """
if redis.call('GET', KEYS[1]) ~= 'L' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == 'L' .. ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

Stamps = tuple[bytes, ...]


def tag_key(tag: str) -> str:
    return f"tag:{tag}"


class Leases:
    """The commands of the protocol. Every method raises what redis-py raises."""

    def __init__(self, redis: Redis, *, lease_ms: int) -> None:
        self._redis: Any = redis
        self._lease_ms = lease_ms

    async def look(self, key: str, tags: Sequence[str]) -> tuple[bytes | None, tuple[bytes | None, ...]]:
        """What stands under the key, and the present stamps of the tags."""
        if not tags:
            return await self._redis.get(key), ()
        raw, *stamps = await self._redis.mget([key, *map(tag_key, tags)])
        return raw, tuple(stamps)

    async def acquire(
        self, key: str, tags: Sequence[str], stamps: Sequence[bytes | None], dead: bytes, ttl_ms: int
    ) -> tuple[bytes, Stamps, bytes | None]:
        """Take the lease, unless the key holds something else than what was seen to be dead.

        Stamps that are missing are made first: never from a fixed value, which an entry of before the
        loss might hold.

        Returns:
            Our token, the stamps, and what stands under the key instead of our lease (None: we have it).
        """
        token = new_token()
        made = [new_token() if stamp is None else stamp for stamp in stamps]
        missing = [at for at, stamp in enumerate(stamps) if stamp is None]
        pipeline = self._redis.pipeline(transaction=False)
        for at in missing:
            pipeline.set(tag_key(tags[at]), made[at], nx=True, get=True, px=ttl_ms)
        pipeline.eval(_ACQUIRE, 1, key, token, dead, self._lease_ms)
        *others, held = await pipeline.execute()
        for at, other in zip(missing, others, strict=True):
            made[at] = made[at] if other is None else other
        return token, tuple(made), held

    async def fill(
        self, key: str, token: bytes, tags: Sequence[str], stamps: Stamps, value: bytes, ttl_ms: int
    ) -> bool:
        """Store a value if the lease still stands; whether it did."""
        entry = encode(token, stamps, value)
        if not tags:
            return bool(await self._redis.eval(_FILL, 1, key, token, entry, ttl_ms))
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.eval(_FILL, 1, key, token, entry, ttl_ms)
        for tag in tags:  # a stamp lives as long as the longest of its entries
            pipeline.pexpire(tag_key(tag), ttl_ms, gt=True)
        filled, *_ = await pipeline.execute()
        return bool(filled)

    async def release(self, key: str, token: bytes) -> None:
        await self._redis.eval(_RELEASE, 1, key, token)

    async def forget(self, names: Sequence[str]) -> None:
        """Take away values, leases and stamps."""
        await self._redis.unlink(*names)
