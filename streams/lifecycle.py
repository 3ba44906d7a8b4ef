"""Beginnings and endings: signals, steps that a stop interrupts, endings that are bounded in time."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Final

import aio_pika.exceptions
import asyncpg
import structlog

from schemas.errors import StreamsError, Unavailable
from streams.health import Health
from streams.refusal import reason

log = structlog.get_logger(__name__)

# Exit statuses.
_FORCED: Final = 1
REFUSED: Final = 2
"""What we raise on purpose: told in one line."""

UNREACHABLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    aio_pika.exceptions.AMQPError,
    aio_pika.exceptions.ChannelInvalidStateError,  # a RuntimeError to them: the channel closed meanwhile
    Unavailable,
)
"""What a server that is not there makes a client raise."""


async def unless(stop: asyncio.Event, step: Coroutine[object, object, None]) -> bool:
    """Run a step of a beginning; False when told to stop meanwhile, which cancels it. Raises what the step
    raises."""
    working = asyncio.create_task(step)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})
    if working.cancelled():
        return False
    working.result()
    return True


async def until_up(health: Health, server: str, connect: Callable[[], Awaitable[None]]) -> None:
    """Connect, however long the server takes to come up; say so by readiness and in the log."""
    wait = 0.2
    while True:
        try:
            await connect()
            health.clear(server)
            return
        except UNREACHABLE as error:
            health.trouble(server, f"cannot connect: {reason(error)}")
            log.warning("waiting for a server", server=server, error=reason(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and again if one took the first time for an error of its server: a driver that is
    cancelled while its connection breaks may raise that instead."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)


async def quietly(step: Awaitable[object], what: str, seconds: float) -> None:
    """One step of an ending: bounded in time, and no reason to leave out the next ones."""
    try:
        async with asyncio.timeout(seconds):
            await step
    except Exception as error:  # noqa: BLE001 - a server that is gone can fail in any way
        log.warning("did not close in order", what=what, error=type(error).__name__)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    return stop


@contextlib.contextmanager
def first_of_ours() -> Iterator[None]:
    """Of a group of exceptions, raise the first that we raise on purpose, by itself. (`except*` would wrap it
    into a group again in Python before 3.11.4.)"""
    try:
        yield
    except BaseExceptionGroup as group:
        ours: BaseException | None = group.subgroup(StreamsError)
        while isinstance(ours, BaseExceptionGroup):
            ours = ours.exceptions[0]
        if ours is None:
            raise
        raise ours from None


@contextlib.contextmanager
def leaving_whole() -> Iterator[None]:
    """Run a role; then, however it ends, have the process end before its interpreter takes itself apart:
    threads of the HTTP server may still be at work, and one that meets an interpreter that is gone aborts the
    process. What the role raises is raised, and told by whoever tells it, before that."""
    status = 0
    try:
        yield
    except BaseException as error:
        status = exit_status(error)
        raise
    finally:
        atexit.register(_leave, status)


def exit_status(error: BaseException) -> int:
    """The status with which a process ends that is left with this exception."""
    match error:
        case SystemExit(code=None):
            return 0
        case SystemExit(code=int(code)):
            return code
        case StreamsError():
            return REFUSED
        case _:
            return 1


def _leave(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def leave_within(seconds: float) -> None:
    """End the process by force unless it ends by itself: everything of ours is closed, and what a library
    left behind (a socket whose buffer nobody will ever read) must not keep it."""
    timer = threading.Timer(seconds, os._exit, [_FORCED])
    timer.daemon = True
    timer.start()
