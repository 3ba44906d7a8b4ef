"""A client for services that publish events. Light to import: no database, no Redis, no engine.

    from streams.producer import Producer, uuid7

    async with Producer(os.environ["AMQP_URL"], source="my-service") as producer:
        await producer.send("task.created", {"task_id": uuid7(), "kind": "research"})

docs/producing.md tells what it promises and what it costs.
"""

from schemas.errors import EventError, InvalidEvent, TooLarge, UnknownType
from schemas.ids import derive_id, uuid7
from streams.producer.batching import Batching
from streams.producer.client import Producer
from streams.producer.errors import BrokerRefused, Full, NotConfirmed, ProducerClosed, Unroutable
from streams.producer.stats import Statistics
from streams.producer.sync import SyncProducer

__all__ = [
    "Batching",
    "BrokerRefused",
    "EventError",
    "Full",
    "InvalidEvent",
    "NotConfirmed",
    "Producer",
    "ProducerClosed",
    "Statistics",
    "SyncProducer",
    "TooLarge",
    "UnknownType",
    "Unroutable",
    "derive_id",
    "uuid7",
]
