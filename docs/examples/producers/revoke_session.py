"""An identity service that ends a session: delete the row, then tell the caches, with plain pika.

AMQP_URL=amqp://... python revoke_session.py TOKEN

What is cached under `s:<SHA-256 of the token>` is forgotten, and the read API refuses the token from then on.
Users are told of in the same way: keys `u:<user>`, or the tag `user:<user>` for everything of theirs.
"""

import hashlib
import json
import os
import sys
import time
import uuid

import pika

digest = hashlib.sha256(sys.argv[1].encode()).hexdigest()
# First: DELETE FROM sessions WHERE token_hash = decode(digest, 'hex'), and commit. What is loaded after the
# invalidation must not find the session any more.

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()  # basic_publish then raises unless the broker has stored the message
channel.basic_publish(
    "invalidations",
    "cache.invalidated",
    json.dumps({"keys": [f"s:{digest}"], "reason": "signed out"}),
    pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=str(uuid.uuid4()),
        type="cache.invalidated",
        app_id="identity",
        timestamp=int(time.time()),
    ),
    mandatory=True,
)
connection.close()
print(f"s:{digest}")
