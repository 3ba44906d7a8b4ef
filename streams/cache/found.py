"""What a caller of the cache asks for, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Load = Callable[[], Awaitable[bytes | None]]
LoadMany = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
"""Values by key, read from the primary database by one statement; keys without one are left out."""
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
    ahead: bool = False
    """Nobody has asked for it yet: not kept beyond its time, and only so much of memory is for the like."""

    def seconds(self, value: bytes) -> int:
        return self.ttl if isinstance(self.ttl, int) else self.ttl(value)


class Group(Protocol):
    """Keys of one kind whose values are loaded together; whoever knows what they mean implements it.

    All keys of a group begin with its `prefix` and a colon, depend on no tags, and have the values that
    `Cache.get` is given for them elsewhere, to the byte.
    """

    @property
    def prefix(self) -> str: ...

    def load(self, keys: Sequence[str], /) -> Awaitable[Mapping[str, bytes]]: ...

    def ttl(self, value: bytes, /) -> int:
        """Seconds to keep a value."""
        ...

    def born(self, key: str, /) -> float | None:
        """Seconds since 1970 at which the thing came to be, if what is new is likely to be read; else None.
        Cheap: it is asked of every key that is invalidated."""
        ...
