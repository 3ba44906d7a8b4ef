"""The smallest producer: plain pika, binary mode (the body is the data, all else is AMQP properties).

AMQP_URL=amqp://... python plain_pika.py
"""

import json
import os
import time
import uuid

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()  # basic_publish then raises unless the broker has stored the message

now = time.time_ns() // 1_000_000
# A UUIDv7: its milliseconds are the task's created_at. From Python 3.14 on it is uuid.uuid7().
task_id = uuid.UUID(int=now << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & ((1 << 62) - 1))

channel.basic_publish(
    "tasks",
    "task.created",
    json.dumps({"task_id": str(task_id), "kind": "research", "payload": {"topic": "owls"}}),
    pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=str(uuid.uuid4()),
        type="task.created",
        app_id="my-service",
        timestamp=now // 1000,
        # AMQP's timestamp has whole seconds. This one is for those who send several events a second.
        headers={
            "cloudEvents:time": time.strftime(f"%Y-%m-%dT%H:%M:%S.{now % 1000:03}Z", time.gmtime(now / 1000))
        },
    ),
    mandatory=True,
)
connection.close()
print(task_id)
