"""`python -m streams.bench.generator`: an open loop of writes, as a process of its own.

Reads its orders as a line of JSON on stdin. Events are sent when they are due, whatever has become of those
before, and each is dated the instant it was *due*: when generator or broker stall, later events look late, as
they should. Prints a line when it begins and one when all is confirmed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random

import orjson

from streams.bench.amqp import Producer
from streams.bench.latency import Histogram
from streams.bench.story import Message, Story, singles

_TICK = 0.001


@dataclass(frozen=True, slots=True)
class Orders:
    """What to send: `rate` events a second for `seconds`, of the story that the other fields tell."""

    url: str
    name: str
    rate: float
    seconds: float
    seed: int = 1
    payload: int = 200
    agents: int = 200


def due(story: Story, first: int, last: int, begun: float, rate: float, rng: Random) -> Iterator[Message]:
    """The events number `first` to `last` - 1, dated when they are due."""
    for number in range(first, last):
        event = story.next(round((begun + number / rate) * 1e6))
        yield from singles(iter((event,)), rng)


def run(orders: Orders) -> None:
    rng = Random(orders.seed)
    story = Story(orders.name, orders.seed, orders.payload, orders.agents)
    late = Histogram()
    count = round(orders.rate * orders.seconds)
    with Producer(orders.url) as producer:
        begun, sent = time.time(), 0
        print(orjson.dumps({"begun": begun}).decode(), flush=True)
        while sent < count:
            now = time.time()
            upto = min(count, int((now - begun) * orders.rate) + 1)
            if upto > sent:
                producer.send(due(story, sent, upto, begun, orders.rate, rng))
                late.add(now - (begun + sent / orders.rate))
                sent = upto
            time.sleep(_TICK)
        producer.flush()
    print(orjson.dumps({"told": asdict(story.told), "late_ms": late.milliseconds("late")}).decode())


if __name__ == "__main__":
    run(Orders(**orjson.loads(sys.stdin.readline())))
