"""Workers that are processes of their own, started in a fraction of a second.

    async with Herd(environment) as herd:
        worker = await herd.start()
        worker.kill()                    # SIGKILL; or os.kill(worker.pid, ...)
        assert await worker.ended() == -signal.SIGKILL

Run as a script it is the parent: it imports the product once and forks a worker for each line that it reads.
What workers log comes out as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support import eventually


@dataclass(eq=False)
class Worker:
    """One process, and what it logged."""

    pid: int
    log: list[dict[str, Any]] = field(default_factory=list)
    status: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def said(self, event: str) -> dict[str, Any] | None:
        """The last line that it logged under this name."""
        return next((line for line in reversed(self.log) if line.get("event") == event), None)

    async def ended(self, seconds: float = 30) -> int:
        """Its exit status, once it has ended; negative for a signal."""
        await eventually(lambda: self.status is not None, f"worker {self.pid} ends", seconds)
        assert self.status is not None
        return self.status

    async def ready(self) -> None:
        await eventually(
            lambda: self.said("ready") is not None or self.status is not None, "the worker is ready", 30
        )


class Herd:
    """The parent of workers; all of them end with it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.workers: list[Worker] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fault.herd",
            env={**os.environ, **self._environment},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 30)
        await self._reader

    async def start(self, *, ready: bool = True) -> Worker:
        """Start a worker; returns when it is ready, or dead."""
        assert self._process is not None
        assert self._process.stdin is not None
        count = len(self.workers)
        self._process.stdin.write(b"start\n")
        await eventually(lambda: len(self.workers) > count, "the worker is started", 30)
        worker = self.workers[-1]
        if ready:
            await worker.ready()
        return worker

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            match line.split():
                case [b"started", pid]:
                    self.workers.append(Worker(int(pid)))
                case [b"ended", pid, status]:
                    self._of(int(pid)).status = int(status)
                case _:
                    said = json.loads(line)
                    self._of(said["pid"]).log.append(said)

    def _of(self, pid: int) -> Worker:
        return next(worker for worker in self.workers if worker.pid == pid)


def _work() -> None:
    import structlog
    import uvloop

    from schemas.contract import Store
    from streams.app import Service
    from streams.processes import _die_with
    from streams.settings import Settings

    def line(logger: object, name: str, said: Any) -> str:
        return json.dumps({"pid": os.getpid(), **said}, default=str)

    _die_with(os.getppid())
    structlog.configure(processors=[structlog.processors.format_exc_info, line])
    uvloop.run(Service(Settings.load(), Store.POSTGRES).run())


def _parent() -> None:
    import streams.app  # noqa: F401 - so that workers need not

    children: set[int] = set()
    open_ = True
    while open_ or children:
        if open_ and select.select([sys.stdin], [], [], 0.02)[0]:
            if os.read(0, len(b"start\n")):
                if (pid := os.fork()) == 0:
                    try:
                        _work()
                    except BaseException as error:  # noqa: BLE001
                        print(
                            json.dumps({"pid": os.getpid(), "event": "failed", "error": repr(error)}),
                            flush=True,
                        )
                        os._exit(2)
                    os._exit(0)
                children.add(pid)
                _say(f"started {pid}")
            else:
                open_ = False
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG if open_ else 0)
            if ended:
                children.discard(pid)
                _say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    _parent()
