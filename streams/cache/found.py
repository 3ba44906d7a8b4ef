"""What a caller of the cache asks for, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

Load = Callable[[], Awaitable[bytes | None]]
Ttl = int | Callable[[bytes], int]


class Source(StrEnum):
    """Where a value came from."""

    MEMORY = "memory"
    """That of this process."""
    REDIS = "redis"
    DATABASE = "database"
    """Loaded, and stored unless an invalidation overtook it."""
    BYPASS = "bypass"
    """Loaded without storing: Redis is unreachable, or another process has been loading for too long."""


@dataclass(frozen=True, slots=True)
class Cached:
    value: bytes | None
    source: Source
    stale: bool = False
    """From the cache while the database is unreachable: no invalidation has touched it, but nobody could be
    asked whether it is still the present value, and its time may be up. Over HTTP: `X-Cache: stale`."""


@dataclass(frozen=True, slots=True)
class Want:
    """A key, and all that is needed to load its value."""

    key: str
    load: Load
    ttl: Ttl
    tags: Sequence[str]
    strict: bool
    """Neither held in memory nor kept beyond its time."""

    def seconds(self, value: bytes) -> int:
        return self.ttl if isinstance(self.ttl, int) else self.ttl(value)
