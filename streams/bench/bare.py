"""`python -m streams.bench.bare URL COUNT QUEUE...`: the fastest consumer that aiormq has, without any work.

One acknowledgement for every 500 messages; prints messages per second from the first to the last.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import aiormq
import uvloop
from aiormq.abc import AbstractChannel, DeliveredMessage

_PREFETCH: Final = 2_000
_ACK_EVERY: Final = 500


class Bare:
    """Counts what is delivered."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._count = 0
        self._first = 0.0
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def consume(self, connection: Any, queue: str) -> None:
        channel: AbstractChannel = await connection.channel()
        await channel.basic_qos(prefetch_count=_PREFETCH)
        unacknowledged = 0

        async def take(message: DeliveredMessage) -> None:
            nonlocal unacknowledged
            self._count += 1
            unacknowledged += 1
            if self._count == 1:
                self._first = time.perf_counter()
            if unacknowledged == _ACK_EVERY:
                unacknowledged = 0
                assert message.delivery_tag is not None
                await channel.basic_ack(message.delivery_tag, multiple=True, wait=False)
            if self._count == self._expected:
                self.done.set_result(self._count / (time.perf_counter() - self._first))

        await channel.basic_consume(queue, take)


async def _main(url: str, expected: int, queues: list[str]) -> None:
    bare = Bare(expected)
    connection = await aiormq.connect(url)
    for queue in queues:
        await bare.consume(connection, queue)
    print(await bare.done, flush=True)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
