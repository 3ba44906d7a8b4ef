"""Cached reads that no applied invalidation has made stale: Redis in front of PostgreSQL.

    cache = Cache(connect_redis(url, "api"))
    found = await cache.get(task_key(id), load, ttl=Ttl.QUERY_RESULT, tags=[agent_tag(agent)])
    await cache.invalidate({task_key(id)}, {agent_tag(agent)})

The protocol, and why it is right, is in docs/caching.md.
"""

from streams.cache.cache import Cache, Cached, Source
from streams.cache.client import connect_redis

__all__ = ["Cache", "Cached", "Source", "connect_redis"]
