"""Two workers on one database whose statements are interleaved on purpose.

A worker's every statement waits for a permit. `Interleaving` gives permits one at a time, in a given order,
and waits until the worker has finished the statement or is seen to wait for another's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy
T = TypeVar("T")


class Gate:
    """A connection as handlers use it, each statement behind a permit."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pid = connection.get_server_pid()
        self.done = False
        self.at_rest = asyncio.Event()
        self._permits = asyncio.Semaphore(0)

    async def fetch(self, query: str, *values: Any) -> Any:
        return await self.step(lambda: self.connection.fetch(query, *values))

    async def execute(self, query: str, *values: Any) -> Any:
        return await self.step(lambda: self.connection.execute(query, *values))

    async def copy_records_to_table(self, table: str, **options: Any) -> Any:
        return await self.step(lambda: self.connection.copy_records_to_table(table, **options))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A savepoint."""
        savepoint = self.connection.transaction()
        await self.step(savepoint.start)
        try:
            yield
        except BaseException:
            await self.step(savepoint.rollback)
            raise
        await self.step(savepoint.commit)

    async def step(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do something once it is this worker's turn."""
        self.at_rest.set()
        await self._permits.acquire()
        self.at_rest.clear()
        return await action()

    def permit(self) -> None:
        self.at_rest.clear()
        self._permits.release()

    def finish(self) -> None:
        self.done = True
        self.at_rest.set()


class Interleaving:
    """Runs workers, each a coroutine function that takes its Gate.

    Args:
        watch: a connection to see locks through.
        turns: which worker is next, over and over; one that is blocked or done passes its turn on.
    """

    def __init__(self, watch: Connection, gates: Sequence[Gate], turns: Sequence[int]) -> None:
        self._watch = watch
        self._gates = gates
        self._turns = turns

    async def run(self, *workers: Callable[[Gate], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._work(worker, gate))
                for worker, gate in zip(workers, self._gates, strict=True)
            ]
            turn = 0
            while not all(gate.done for gate in self._gates):
                chosen = self._turns[turn % len(self._turns)]
                turn += 1
                for gate in (*self._gates[chosen:], *self._gates[:chosen]):
                    if await self._rests(gate) and not gate.done:
                        gate.permit()
                        await self._rests(gate)
                        break
                if any(task.done() and task.exception() for task in tasks):
                    return

    async def _work(self, worker: Callable[[Gate], Awaitable[None]], gate: Gate) -> None:
        try:
            await worker(gate)
        finally:
            gate.finish()

    async def _rests(self, gate: Gate) -> bool:
        """Wait until a worker has come to rest; False if it waits for another's lock."""
        resting = asyncio.ensure_future(gate.at_rest.wait())
        try:
            while True:
                await asyncio.wait([resting], timeout=0.002)
                if resting.done():
                    return True
                if await self._watch.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", gate.pid):
                    return False
        finally:
            resting.cancel()
