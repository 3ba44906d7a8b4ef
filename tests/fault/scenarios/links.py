"""Bad links between the service and each of its servers: every server with every fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial
from tests.fault.proxy import Proxy

_RATE: Final = 350.0
_SILENCE: Final = 25.0  # seconds; longer than any time limit of the profile `staging`

Fault = Callable[[Trial, Proxy, "asyncio.Task[None]"], Awaitable[str]]


async def _latency(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    proxy.set(latency=0.04)
    await asyncio.wait({publishing})
    return "40 ms each way"


async def _bandwidth(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    proxy.set(rate=150_000)
    await asyncio.wait({publishing})
    return "150 kB/s for each connection and way"


async def _sliced(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    proxy.set(slice=29)
    await asyncio.wait({publishing})
    return "packets of 29 bytes"


async def _reset(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    rounds = cut = 0
    while not publishing.done() or rounds < 3:
        await asyncio.sleep(0.8)
        cut += proxy.reset()
        rounds += 1
    return f"{cut} connections reset, in {rounds} rounds"


async def _timeout(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    await _confirmed(here, publishing)
    proxy.hold()
    await asyncio.sleep(_SILENCE)
    proxy.heal()
    return f"nothing passed for {_SILENCE:.0f} s"


async def _half_open(here: Trial, proxy: Proxy, publishing: asyncio.Task[None]) -> str:
    cut = 0
    for share in (0.3, 0.7):
        await _confirmed(here, publishing, share)
        cut += proxy.half_open()
    return f"{cut} connections that only the server knew to be closed"


async def _confirmed(here: Trial, publishing: asyncio.Task[None], share: float = 0.3) -> None:
    wanted = round(share * len(here.planned))
    await until(lambda: publishing.done() or here.producer.confirmed >= wanted, "the stream flows")


FAULTS: Final[dict[str, Fault]] = {
    "latency": _latency,
    "bandwidth": _bandwidth,
    "sliced": _sliced,
    "reset": _reset,
    "timeout": _timeout,
    "half-open": _half_open,
}


async def _cell(stage: Stage, server: str, fault: str) -> None:
    async with trial(
        stage, f"{server} link {fault}", reads=15, through=server, STREAMS_PROFILE="staging"
    ) as here:
        assert here.proxy is not None
        here.planned = here.load.plan(stage.scaled(3_000, 600))
        async with here.publishing(here.planned, _RATE) as publishing:
            here.row.faults = await FAULTS[fault](here, here.proxy, publishing)
        await here.settle()
        here.proxy.heal()
        await until(here.all_ready, "all are ready again", 90)


def _links(server: str) -> Callable[[Stage], Awaitable[None]]:
    async def links(stage: Stage) -> None:
        """All faults at once, each in a corner of its own: most of the time they only wait."""
        async with asyncio.TaskGroup() as group:
            for fault in FAULTS:
                group.create_task(_cell(stage, server, fault))

    return links


def _alone(server: str, fault: str) -> Callable[[Stage], Awaitable[None]]:
    return lambda stage: _cell(stage, server, fault)


SERVERS: Final = ("rabbitmq", "postgres", "redis")
SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    f"link-{server}": _links(server) for server in SERVERS
}
CELLS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    f"link-{server}-{fault}": _alone(server, fault) for server in SERVERS for fault in FAULTS
}
"""One fault of one server, for a closer look; part of no whole run."""
