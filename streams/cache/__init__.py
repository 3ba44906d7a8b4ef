"""Cached reads that no applied invalidation has made stale: memory and Redis in front of PostgreSQL.

    cache = Cache(connect_redis(url, "api"))
    found = await cache.get(task_key(id), load, ttl=Ttl.QUERY_RESULT, tags=[agent_tag(agent)])
    await cache.invalidate({task_key(id)}, {agent_tag(agent)})

The protocol, and why it is right, is in docs/caching.md.
"""

from streams.cache.cache import Cache
from streams.cache.client import RedisClient, connect_redis
from streams.cache.found import Cached, Source
from streams.cache.loading import Keeping
from streams.cache.local import LocalLimits
from streams.cache.refresh import Refreshing

__all__ = [
    "Cache",
    "Cached",
    "Keeping",
    "LocalLimits",
    "RedisClient",
    "Refreshing",
    "Source",
    "connect_redis",
]
