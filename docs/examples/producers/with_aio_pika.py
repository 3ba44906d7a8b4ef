"""Two structured CloudEvents and a batch of votes, with aio-pika alone.

AMQP_URL=amqp://... python with_aio_pika.py
"""

import asyncio
import json
import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aio_pika


def uuid7() -> str:
    milliseconds = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & ((1 << 62) - 1)))


def event(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "my-service",
        "type": type_,
        "time": datetime.now(UTC).isoformat(),
        "data": data,
    }


def message(content: Any, content_type: str) -> aio_pika.Message:
    return aio_pika.Message(
        json.dumps(content).encode(),
        content_type=content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(uuid.uuid4()),
    )


async def main() -> None:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        # Confirms, and an exception for what no queue takes.
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        votes = await channel.get_exchange("votes", ensure=False)
        round_id = uuid7()
        opened = event("round.opened", {"round_id": round_id, "options": ["owls", "bats"], "quorum": 3})
        await votes.publish(message(opened, "application/cloudevents+json"), opened["type"], mandatory=True)
        cast = [
            event("vote.cast", {"round_id": round_id, "agent_id": str(uuid.uuid4()), "choice": choice})
            for choice in ("owls", "bats", "owls")
        ]
        # One AMQP message, three events: the way to very high rates.
        await votes.publish(message(cast, "application/cloudevents-batch+json"), "vote.cast", mandatory=True)
    print(round_id)


asyncio.run(main())
