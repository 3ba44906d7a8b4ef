"""Agent Streams: typed batch handlers from RabbitMQ to PostgreSQL, with caches that follow.

What a package of handlers needs:

    from streams import Batch, BatchPolicy, Changes, Data, Event, Stream
"""

from schemas.contract import Batch, BatchPolicy, CacheWriter, Changes, Stream, Trigger
from schemas.envelope import Data, Event

__all__ = ["Batch", "BatchPolicy", "CacheWriter", "Changes", "Data", "Event", "Stream", "Trigger"]
