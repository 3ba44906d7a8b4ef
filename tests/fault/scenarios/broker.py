"""RabbitMQ goes away under load: in order at a third of the stream, by SIGKILL at half of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial

_RATE: Final = 1_200.0
_WHOLE: Final = 0.1  # a scale; below it, one of the two will do


def _restarted(name: str, **environment: str) -> Callable[[Stage], Awaitable[None]]:
    async def broker_restart(stage: Stage) -> None:
        """The producer goes on publishing, too: what it was not confirmed it sends again."""
        async with trial(stage, name, workers=2, **environment) as here:
            messages = here.load.plan(stage.scaled(20_000, 3_000))
            stack, how = here.place.stack, "one kill -9"
            async with here.publishing(messages, _RATE):
                if stage.scale >= _WHOLE:
                    how = "one restart, one kill -9"
                    await _confirmed(here, len(messages) // 3)
                    await asyncio.to_thread(stack.stop_service, "rabbitmq")
                    await asyncio.to_thread(stack.start_service, "rabbitmq")
                await _confirmed(here, len(messages) // 2)
                await asyncio.to_thread(stack.kill, "rabbitmq")
                await asyncio.to_thread(stack.start_service, "rabbitmq")
            here.row.faults = f"{how}; {here.producer.sent_again:,} messages sent again"

    return broker_restart


async def _confirmed(here: Trial, count: int) -> None:
    await until(lambda: here.producer.confirmed >= count, f"{count} messages confirmed")


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "broker-restart": _restarted("RabbitMQ restarted, killed -9"),
    "broker-restart-untapped": _restarted("the same, STREAMS_TAP=0", STREAMS_TAP="0"),
}
