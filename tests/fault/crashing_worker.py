"""A worker that kills itself (SIGKILL) at a named point of its n-th batch.

The points exist here only: this script wraps what the product calls there. Arguments: point, batch.

    before-commit    the transaction holds everything and is not committed
    before-publish   committed; nothing is published
    before-ack       published and confirmed; nothing is acknowledged
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from schemas.contract import Store
from streams import acks, outbox, publisher
from streams.app import Service
from streams.settings import Settings

POINTS = ("before-commit", "before-publish", "before-ack")


def crash_at(point: str, batch: int) -> None:
    """Arrange for the process to die there."""
    owner, name, after = {
        "before-commit": (outbox, "insert", True),
        "before-publish": (publisher.Publisher, "publish", False),
        "before-ack": (acks.AckTracker, "flush", False),
    }[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < batch:
            return await original(*args, **kwargs)
        if after:
            await original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    crash_at(sys.argv[1], int(sys.argv[2]))
    uvloop.run(Service(Settings.load(), Store.POSTGRES).run())
