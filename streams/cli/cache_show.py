"""What stands under a key of Redis, for people; values are left out unless they are asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from handlers.board_store import BoardStore
from handlers.boards import Board
from handlers.periods import today
from handlers.reads import SESSION_SECONDS
from schemas.cache import AGENTS_TAG, LEADERBOARDS_TAG, Period, Ttl
from streams.cache.entry import Entry, Lease, decode, stamps_of
from streams.cache.leases import tag_key
from streams.cache.link import Link

# Where the time to live is always the same, the age follows from what is left.
_SECONDS: Final = {
    "ag:": Ttl.AGENT_STATE,
    "s:": SESSION_SECONDS,
    "stats:ag:": Ttl.AGENT_METRICS,
    "lb:": Ttl.LEADERBOARD,
    "ut:": Ttl.QUERY_RESULT,
    "q:": Ttl.QUERY_RESULT,
}


async def describe(redis: Any, key: str, tags: Sequence[str], *, with_value: bool) -> dict[str, Any]:
    """What stands under a key: kind, size, times, and whether a reader would take it.

    Args:
        tags: those that the entry was filled under, if `tags_of` does not know them.
    """
    if key in set(Period):
        return await _board(redis, Period(key))
    found: dict[str, Any] = {"key": key, "level": "redis"}
    ttl = await redis.pttl(key)
    if ttl == -2:
        return found | {"kind": "nothing"}
    kind = (await redis.type(key)).decode()
    found |= {
        "kind": kind,
        "ttl_seconds": None if ttl < 0 else round(ttl / 1000, 3),
        "memory_bytes": await redis.memory_usage(key),
    }
    if kind != "string":
        return found
    tags = tags or tags_of(key)
    (raw, epoch), *stamps = await Link(redis).ask(("GET", key), *(("GET", tag_key(tag)) for tag in tags))
    if key.startswith("lock:"):
        return found | {"kind": "lock", "fence": int((raw or b"0").split()[0])}
    held = decode(raw)
    if isinstance(held, Lease):
        return found | {"kind": "lease", "valid": held.epoch == epoch}
    if isinstance(held, Entry):
        return found | _entry(key, held, epoch, tags, stamps, with_value=with_value)
    return found | {
        "kind": "stamp of a tag" if key.startswith("tag:") else "unreadable",
        "bytes": len(raw or b""),
    }


def tags_of(key: str) -> tuple[str, ...]:
    """The tags that the read API fills a key under, as far as its name says so."""
    if key.startswith("lb:"):
        return (LEADERBOARDS_TAG, AGENTS_TAG)
    for prefix, tag in (("q:round:", "round:"), ("ut:", "user:")):
        if key.startswith(prefix):
            return (f"{tag}{key.removeprefix(prefix)}",)
    return ()


def _entry(
    key: str,
    held: Entry,
    epoch: bytes,
    tags: Sequence[str],
    stamps: Sequence[tuple[bytes | None, bytes]],
    *,
    with_value: bool,
) -> dict[str, Any]:
    left = held.expires / 1000 - time.time()
    seconds = next((seconds for prefix, seconds in _SECONDS.items() if key.startswith(prefix)), None)
    found: dict[str, Any] = {
        "kind": "entry",
        "value_bytes": len(held.value),
        "age_seconds": None if seconds is None else round(seconds - left, 3),
        "expires_in_seconds": round(left, 3),
        "epoch_valid": held.epoch == epoch,
        "tags": list(tags),
        "stamps_valid": held.stamps == stamps_of(stamps) if len(tags) == len(held.stamps) else None,
    }
    return found | ({"value": held.value.decode(errors="replace")} if with_value else {})


async def _board(redis: Any, period: Period) -> dict[str, Any]:
    """A leaderboard's sorted set."""
    board = Board.at(period, today())
    rank, rows, *building = board.keys
    standing = await BoardStore(redis).top(board, 1)
    sizes = [await redis.memory_usage(key) or 0 for key in (rank, rows)]
    return {
        "key": rank,
        "level": "redis",
        "kind": "leaderboard",
        "complete": standing is not None,
        "agents": None if standing is None else standing.size,
        "ttl_seconds": max(0, await redis.pttl(rows)) / 1000,
        "memory_bytes": sum(sizes),
        "is_being_built": bool(await redis.exists(building[1])),
    }
