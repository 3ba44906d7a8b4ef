"""Points at which a worker kills itself (SIGKILL). They exist here only: calls of the product are wrapped.

before-commit     the transaction holds everything and is not committed
commit-publish    committed; nothing is published
publish-confirm   published; up to a few milliseconds later, confirmed by the broker or not
confirm-ack       published and confirmed; nothing is acknowledged
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streams import acks, outbox, publisher

POINTS: Final = ("before-commit", "commit-publish", "publish-confirm", "confirm-ack")
_CONFIRM_SECONDS: Final = 0.004  # about what a quorum queue takes to confirm

Call = Callable[[], Awaitable[Any]]


async def _after(call: Call) -> None:
    await call()


async def _before(call: Call) -> None:
    pass


async def _during(call: Call) -> None:
    await asyncio.wait({asyncio.ensure_future(call())}, timeout=random.uniform(0, _CONFIRM_SECONDS))


_PLACES: Final[dict[str, tuple[object, str, Callable[[Call], Awaitable[None]]]]] = {
    "before-commit": (outbox, "insert", _after),
    "commit-publish": (publisher.Publisher, "publish", _before),
    "publish-confirm": (publisher.Publisher, "publish", _during),
    "confirm-ack": (acks.AckTracker, "flush", _before),
}


def crash_at(point: str, batch: int) -> None:
    """Arrange for this process to die there in its n-th batch."""
    owner, name, approach = _PLACES[point]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < batch:
            return await original(*args, **kwargs)
        await approach(lambda: original(*args, **kwargs))
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, wrapped)
