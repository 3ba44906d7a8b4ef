"""A producer on the client of this project: typed, confirmed, batched, traced.

AMQP_URL=amqp://... python with_client.py
"""

import asyncio
import os

from streams.producer import Batching, InvalidEvent, NotConfirmed, Producer, uuid7


async def main() -> None:
    task_id = uuid7()
    async with Producer(os.environ["AMQP_URL"], source="my-service", batching=Batching(size=100)) as producer:
        await producer.send(
            "task.created", {"task_id": task_id, "kind": "research", "payload": {"topic": "owls"}}
        )

        try:
            await producer.send("task.progressed", {"task_id": task_id, "progress": 2})
        except InvalidEvent as error:
            print(f"not sent: {error}")  # data.progress: Input should be less than or equal to 1

        # Many at once travel together; `enqueue` waits only while too much is in flight.
        for step in range(1, 10):
            await producer.enqueue("task.progressed", {"task_id": task_id, "progress": step / 10})
        try:
            await producer.flush()
        except NotConfirmed as error:
            print(error)  # names the events; error.events can be sent again, under the same ids

        await producer.send("task.completed", {"task_id": task_id, "result": {"owls": 12}})
    print(task_id)


asyncio.run(main())
