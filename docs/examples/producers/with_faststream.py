"""A FastStream service that publishes an event for every request it handles; here, for one.

AMQP_URL=amqp://... python with_faststream.py
"""

import asyncio
import os
import time
import uuid
from datetime import UTC, datetime

from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange

# Without `on_return_raises` nobody would hear of an event that no queue takes.
broker = RabbitBroker(os.environ["AMQP_URL"], default_channel=Channel(on_return_raises=True), logger=None)
# `declare=False`: the exchange belongs to Agent Streams, and a producer's login may not declare it.
agents = RabbitExchange("agents", type=ExchangeType.TOPIC, declare=False)


async def register(name: str) -> uuid.UUID:
    """Binary mode: FastStream writes the data, the attributes are AMQP properties."""
    agent_id = uuid.uuid4()
    now = datetime.now(UTC)
    await broker.publish(
        {"agent_id": str(agent_id), "name": name, "capabilities": ["research"]},
        exchange=agents,
        routing_key="agent.registered",
        content_type="application/json",
        message_id=str(uuid.uuid4()),
        message_type="agent.registered",
        timestamp=now,
        headers={"cloudEvents:source": "my-service", "cloudEvents:time": now.isoformat()},
        persist=True,  # False is FastStream's default: a restart of the broker would lose the event
        mandatory=True,
    )
    return agent_id


async def main() -> None:
    async with broker:
        print(await register(f"researcher-{time.time():.0f}"))


asyncio.run(main())
