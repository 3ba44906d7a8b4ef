"""RabbitMQ goes away under load: in order at a third of the stream, by SIGKILL at half of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial

_RATE: Final = 1_200.0


async def broker_restart(stage: Stage) -> None:
    """The producer goes on publishing, too: what it was not confirmed it sends again."""
    async with trial(stage, "RabbitMQ restarted, killed -9", workers=2) as here:
        messages = here.load.plan(stage.scaled(20_000, 3_000))
        async with here.publishing(messages, _RATE):
            await _confirmed(here, len(messages) // 3)
            await asyncio.to_thread(here.place.stack.stop_service, "rabbitmq")
            await asyncio.to_thread(here.place.stack.start_service, "rabbitmq")
            await _confirmed(here, len(messages) // 2)
            await asyncio.to_thread(here.place.stack.kill, "rabbitmq")
            await asyncio.to_thread(here.place.stack.start_service, "rabbitmq")
        here.row.faults = f"one restart, one kill -9; {here.producer.sent_again:,} messages sent again"


async def _confirmed(here: Trial, count: int) -> None:
    await until(lambda: here.producer.confirmed >= count, f"{count} messages confirmed")


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {"broker-restart": broker_restart}
