"""Rate limits that all processes share: one number per client in Redis, moved by one script.

The generic cell rate algorithm: a client's number is the instant at which its quota is whole again; each
request moves it by one interval, and is refused where that would be too far ahead. A counted window lets
twice the limit through around its edge, and reading before writing lets through whatever comes between.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from handlers.access import Quota, Verdict
from streams.cache.circuit import Circuit
from streams.refusal import reason

log = structlog.get_logger(__name__)

# Microseconds by the clock of Redis. A command that is sent twice, because its connection broke, costs its
# client one request.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local moved = whole + interval
local room = now + interval * burst - moved
if room < 0 then
    return {0, 0, string.format('%d', math.ceil(-room)), string.format('%d', whole - now)}
end
redis.call('SET', KEYS[1], string.format('%d', moved), 'PX', math.ceil((moved - now) / 1000))
return {1, math.floor(room / interval), 0, string.format('%d', moved - now)}
"""
_DOWN: Final = (RedisError, OSError, TimeoutError)
_CLIENTS: Final = 10_000


class RateLimiter:
    """Limits clients across processes; each process by itself while Redis is away, so never an outage.

    Args:
        clock: monotonic seconds, for what is limited locally.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster,
        *,
        circuit: Circuit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Any = redis
        self._circuit = circuit or Circuit()
        self._local = LocalLimiter(clock)

    async def take(self, key: str, quota: Quota) -> Verdict:
        """Count one request of the client under `key`, if it may come now."""
        if not self._circuit.allows():
            return self._local.take(key, quota)
        interval = round(1_000_000 / quota.rate)
        try:
            found = await self._redis.eval(_TAKE, 1, key, interval, quota.burst)
        except _DOWN as error:
            if not self._circuit.is_open:
                log.warning("Redis is unreachable, limiting locally", error=reason(error))
            self._circuit.failed()
            return self._local.take(key, quota)
        self._circuit.succeeded()
        allowed, remaining, wait, reset = map(int, found)
        return Verdict(bool(allowed), remaining, wait / 1_000_000, reset / 1_000_000)


class LocalLimiter:
    """The same in one process, for the clients that came last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._whole: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, quota: Quota) -> Verdict:
        """As `RateLimiter.take`."""
        now, interval = self._clock(), 1 / quota.rate
        whole = max(self._whole.get(key, now), now)
        room = now + interval * quota.burst - (whole + interval)
        if room < 0:
            return Verdict(False, 0, -room, whole - now)
        self._whole[key] = whole + interval
        self._whole.move_to_end(key)
        while len(self._whole) > _CLIENTS:
            self._whole.popitem(last=False)
        return Verdict(True, int(room / interval + 1e-9), 0.0, whole + interval - now)
