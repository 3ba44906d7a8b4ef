"""Invalidations: what other processes hold in caches and must not read any more.

Events come from our own workers after each commit, from services that own other entities (users,
sessions), and from rounds that were decided.
"""

from __future__ import annotations

from handlers.board_updates import follow
from schemas.cache import round_key, round_tag
from schemas.contract import Batch, BatchPolicy, CacheWriter, Changes, Stream
from schemas.invalidations import CacheInvalidated
from schemas.votes import RoundDecided

stream = Stream("invalidations")


@stream.updater(
    exchange="invalidations",
    events=CacheInvalidated | RoundDecided,
    also=[("votes", "round.decided")],
    # Short linger: every millisecond here is one in which caches lag behind the database.
    batch=BatchPolicy(size=200, linger=0.002, lanes=2),
)
async def apply_invalidations(batch: Batch[CacheInvalidated | RoundDecided], cache: CacheWriter) -> Changes:
    """Forget all that the batch names, in one go; what is returned is told to in-process caches.

    Leaderboards come first: what is forgotten is loaded from them again.
    """
    keys: set[str] = set()
    tags: set[str] = set()
    named: list[CacheInvalidated] = []
    for event in batch.events:
        match event:
            case CacheInvalidated():
                named.append(event)
                keys.update(event.data.keys)
                tags.update(event.data.tags)
            case RoundDecided():
                keys.add(round_key(event.data.round_id))
                tags.add(round_tag(event.data.round_id))
    if cache.redis is not None:
        await follow(cache.redis, cache.rows, named, cache.metrics and cache.metrics.boards)
    await cache.invalidate(keys, tags)
    return Changes(keys=keys, tags=tags)
