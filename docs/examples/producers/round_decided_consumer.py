"""A FastStream service that acts on decided rounds.

    AMQP_URL=amqp://... faststream run round_decided_consumer:app

Delivery is at least once: the same decision may come twice, always under the same id. Whoever must act once
remembers the ids that are done, as this service would in its database.
"""

import os
from datetime import datetime
from uuid import UUID

from faststream import AckPolicy, FastStream
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType
from pydantic import BaseModel

broker = RabbitBroker(os.environ["AMQP_URL"])
app = FastStream(broker)

votes = RabbitExchange("votes", type=ExchangeType.TOPIC, declare=False)
decisions = RabbitQueue(
    "my-service.decisions",
    durable=True,
    queue_type=QueueType.QUORUM,
    routing_key="round.decided",
)


class Decision(BaseModel):
    round_id: UUID
    choice: str
    tally: dict[str, float]
    votes: int
    decided_at: datetime


class Decided(BaseModel):
    id: str
    source: str
    time: datetime
    data: Decision


async def decode(message: RabbitMessage) -> Decided:
    # FastStream parses application/json only; a CloudEvent comes as application/cloudevents+json.
    return Decided.model_validate_json(message.body)


# Acknowledged once the function has returned; a decision that it fails on comes again.
@broker.subscriber(decisions, votes, decoder=decode, ack_policy=AckPolicy.NACK_ON_ERROR)
async def act(event: Decided) -> None:
    decision = event.data
    print(f"{decision.round_id} decided for {decision.choice} with {decision.votes} votes", flush=True)
