"""Child processes that belong together: started in order, stopped in reverse, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from schemas.errors import StreamsError

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessEnded(StreamsError):
    """A child ended that was to go on."""


@dataclass(frozen=True, slots=True)
class Child:
    """One running process; `log` is the file its output goes to, None where it shares ours."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    def tail(self, lines: int = 15) -> str:
        """The end of what it wrote."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(slots=True)
class ProcessGroup:
    """An async context: leaving it stops every child.

    Children get sessions of their own, so that Ctrl-C in a terminal reaches only us and we stop them
    in order. They ask the kernel for SIGTERM when our main thread dies, however it dies.

    Args:
        stop_seconds: how long a child may take to end after SIGTERM before it is killed.
    """

    stop_seconds: float = 25.0
    children: list[Child] = field(default_factory=list)

    def start(
        self, name: str, arguments: Sequence[str], *, env: Mapping[str, str], log: Path | None = None
    ) -> Child:
        """Start one process. Must be called in the main thread: the kernel watches the calling thread."""
        parent = os.getpid()
        output = log.open("ab") if log is not None else None
        try:
            process = subprocess.Popen(
                list(arguments),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                start_new_session=True,
                # Two system calls and no Python locks: safe between fork and exec.
                preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509
            )
        finally:
            if output is not None:
                output.close()
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise if a child has ended.

        Raises:
            ProcessEnded: names it, its exit status, and the end of its log.
        """
        for child in self.children:
            status = child.process.poll()
            if status is not None:
                raise ProcessEnded(f"{child.name} ended with status {status}\n{child.tail()}".rstrip())

    async def wait(self, stop: asyncio.Event) -> Child | None:
        """The first child that ends; None once told to stop."""
        while not stop.is_set():
            for child in self.children:
                if child.process.poll() is not None:
                    return child
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.1)
        return None

    async def stop(self) -> None:
        """SIGTERM in the reverse order of starting, all at once; SIGKILL to whoever does not end."""
        for child in reversed(self.children):
            _signal(child, signal.SIGTERM)
        await asyncio.gather(*(self._end(child) for child in self.children))
        self.children.clear()

    async def _end(self, child: Child) -> None:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.process.wait, self.stop_seconds)
        finally:
            # Also what the child itself started: its session is one process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _die_with(parent: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # died between fork and prctl
            os._exit(1)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:
        child.process.send_signal(number)
