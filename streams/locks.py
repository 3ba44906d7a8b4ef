"""Locks between processes, in Redis, with fencing tokens.

    async with locks.hold("warming", at_most=300) as lock:   # LockTaken: somebody else does it
        ...
        await lock.extend()                                   # LockLost: somebody else may have begun
        write(fence=lock.fence)                               # what is written to refuses smaller tokens

    lock:<resource>            <fence> <owner>, for the lock's TTL
    {lock:<resource>}:fence    the last token that was given out; in the same slot of a Redis Cluster

A lock in Redis is a lease, not a proof: a holder that stalls longer than the TTL, or a failover to a replica
that has not heard of the lock, makes two holders. So what must not be done twice checks the token. Tokens are
the server's clock in microseconds, or the last one plus one if that is more: they grow even after a
flush or a failover that lost the last one, as long as the servers' clocks do not go back by more than
the outage took.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from schemas.cache import Ttl, lock_key
from schemas.errors import LockLost, LockTaken
from streams.cache import RedisClient

_FENCE_MS: Final = 24 * 3600 * 1000
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25

# The first comparison is for a command that the client sent twice because its connection broke.
_ACQUIRE: Final = """
local held = redis.call('GET', KEYS[1])
if held then
  local fence, owner = string.match(held, '^(%d+) (.+)$')
  if owner == ARGV[1] then return fence end
  return false
end
local now = redis.call('TIME')
local fence = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[2]) or '0')) + 1)
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], text .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], text, 'PX', ARGV[3])
return text
"""
_EXTEND: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
"""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that was held when it was acquired or last extended.

    Args:
        fence: larger than that of every earlier holder.
    """

    resource: str
    fence: int
    owner: str
    _locks: Locks

    async def extend(self) -> None:
        """Hold it for a whole TTL from now.

        Raises:
            LockLost: it expired; somebody else may hold it.
            RedisError, OSError: unknown; it expires at the end of its TTL at the latest.
        """
        if not await self._locks.extend(self):
            raise LockLost(f"the lock {self.resource!r} expired while it was held")


class Locks:
    """Locks of one Redis.

    Args:
        ttl: seconds until the lock of a holder that died is free.
    """

    def __init__(self, redis: RedisClient, *, ttl: float = Ttl.LOCK) -> None:
        self._redis: Any = redis
        self._ttl_ms = int(ttl * 1000)

    @asynccontextmanager
    async def hold(
        self, resource: str, *, wait: float = 0.0, at_most: float | None = None
    ) -> AsyncIterator[Lock]:
        """Hold a lock for the length of a block, or of its TTL if nobody extends it.

        Args:
            wait: seconds to wait for it.
            at_most: extend it in the background for this many seconds; who hangs must not hold it for ever.

        Raises:
            LockTaken: somebody else holds it.
            RedisError, OSError: Redis does not answer.
        """
        lock = await self.acquire(resource, wait=wait)
        keeper = asyncio.create_task(self._keep(lock, at_most)) if at_most else None
        try:
            yield lock
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait({keeper})
            with suppress(RedisError, OSError):  # it expires by itself
                await self.release(lock)

    async def acquire(self, resource: str, *, wait: float = 0.0) -> Lock:
        """Take a lock; raises what `hold` raises. Waiters come in no order."""
        deadline = time.monotonic() + wait
        owner, pause = os.urandom(12).hex(), _FIRST_PAUSE
        key = lock_key(resource)
        while True:
            fence = await self._redis.eval(_ACQUIRE, 2, key, _fence_key(key), owner, self._ttl_ms, _FENCE_MS)
            if fence is not None:
                return Lock(resource, int(fence), owner, self)
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockTaken(f"the lock {resource!r} is held by somebody else")
            await asyncio.sleep(min(left, pause * random.uniform(0.5, 1)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def extend(self, lock: Lock) -> bool:
        """Whether it was still held; if so, it is for another TTL."""
        return bool(await self._redis.eval(_EXTEND, 1, lock_key(lock.resource), _value(lock), self._ttl_ms))

    async def release(self, lock: Lock) -> bool:
        """Whether it was still held; if so, it is free now."""
        return bool(await self._redis.eval(_RELEASE, 1, lock_key(lock.resource), _value(lock)))

    async def _keep(self, lock: Lock, seconds: float) -> None:
        """Extend a lock until it is lost; what its holder writes to finds out by the token."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(self._ttl_ms / 3000)
            try:
                if not await self.extend(lock):
                    return
            except (RedisError, OSError):  # the next attempt may still be in time
                continue


def _value(lock: Lock) -> str:
    return f"{lock.fence} {lock.owner}"


def _fence_key(key: str) -> str:
    """A cluster hashes what is in braces: the same slot as the lock's own key."""
    return f"{{{key}}}:fence"
