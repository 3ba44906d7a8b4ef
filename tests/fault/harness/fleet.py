"""The service's processes, seen from a trial."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

READY_SECONDS: Final = 90.0
STOP_SECONDS: Final = 40.0


@dataclass(eq=False, slots=True)
class Member:
    """One process. `expected`: it was told to end, or may end by itself (it has a crash point)."""

    role: str
    pid: int
    base: str
    crash: tuple[str, int] | None
    expected: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None

    def signal(self, number: signal.Signals) -> None:
        """Harmless when it has ended."""
        self.expected = True
        if not self.ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to whoever does not end."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended.wait(), STOP_SECONDS)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended.wait()
            raise AssertionError(
                f"a {self.role} did not end within {STOP_SECONDS:.0f} s of SIGTERM"
            ) from None


class Nursery:
    """Starts processes by forking one that has everything loaded."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._members: dict[int, Member] = {}
        self._early: dict[int, int] = {}

    async def listen(self) -> None:
        """Take note of starts and ends until the nursery closes."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                self._started.put_nowait(told["started"])
            elif (member := self._members.pop(told["ended"], None)) is not None:
                _note_end(member, told["status"])
            else:
                self._early[told["ended"]] = told["status"]
        self._started.put_nowait(0)

    async def start(
        self, role: str, environment: Mapping[str, str], port: int, log: Path, crash: tuple[str, int] | None
    ) -> Member:
        """Fork one; it is not ready yet."""
        assert self._process.stdin is not None
        order = {"role": role, "env": dict(environment), "log": str(log), "crash": crash}
        async with self._asking:
            with suppress(ConnectionError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                await self._process.stdin.drain()
            pid = await self._started.get()
            if not pid:
                self._started.put_nowait(0)
                raise RuntimeError("the nursery has ended; its last words are above")
        member = Member(role, pid, f"http://127.0.0.1:{port}", crash)
        if pid in self._early:
            _note_end(member, self._early.pop(pid))
        else:
            self._members[pid] = member
        return member


def _note_end(member: Member, status: int) -> None:
    member.status = status
    member.ended.set()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """A nursery; leaving kills whatever it still has."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.harness.nursery",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    here = Nursery(process)
    listener = asyncio.create_task(here.listen())
    try:
        yield here
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listener


class Fleet:
    """The members of one trial. Those that die are replaced at once; whoever dies unasked is counted.

    Args:
        environment: what every member is given.
        port: gives a port that nobody uses.
        crash: asked for each new worker: where it is to kill itself, if anywhere.
    """

    def __init__(
        self,
        nursery: Nursery,
        environment: Mapping[str, str],
        port: Callable[[], int],
        log: Path,
        crash: Callable[[], tuple[str, int] | None] = lambda: None,
    ) -> None:
        self._nursery = nursery
        self._environment = {**os.environ, **environment, "STREAMS_API_OPEN": "1"}
        self._port = port
        self._log = log
        self.crash = crash
        self.members: list[Member] = []
        self._keepers: set[asyncio.Task[None]] = set()
        self._stopped: set[str] = set()
        self.killed = 0
        """Processes ended by SIGKILL, ours or their own at a point."""
        self.died: list[str] = []
        """Processes that ended without being told to."""

    def of(self, role: str) -> list[Member]:
        return [m for m in self.members if m.role == role and not m.ended.is_set()]

    async def start(self, role: str, count: int = 1, **environment: str) -> list[Member]:
        """Start members that are replaced when they die."""
        self._stopped.discard(role)
        started = [await self._spawn(role, environment) for _ in range(count)]
        for member in started:
            self._keep(member, environment)
        return started

    async def kill(self, role: str) -> None:
        """SIGKILL to one of a role, by lot."""
        if candidates := self.of(role):
            random.choice(candidates).signal(signal.SIGKILL)

    async def ready(self) -> None:
        """Wait until every member reports ready."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client, asyncio.timeout(READY_SECONDS):
            for member in list(self.members):
                while not member.ended.is_set() and not await _is_ready(client, member):
                    await asyncio.sleep(0.05)

    async def replace(self, member: Member) -> None:
        """Stop one in order, start another in its place, wait until all are ready."""
        await member.stop()
        self.members.remove(member)
        await self.start(member.role)
        await self.ready()

    async def stop(self, *roles: str) -> None:
        """SIGTERM to all of these roles (without any: to everybody), and wait for their end."""
        self._stopped.update(roles or ("worker", "updater", "api"))
        stopping = [m for m in self.members if not roles or m.role in roles]
        await asyncio.gather(*(member.stop() for member in stopping))
        self.members = [m for m in self.members if m not in stopping]

    def ask_for_stacks(self) -> None:
        """Everybody writes into the log where each of its tasks stands."""
        for member in self.members:
            if not member.ended.is_set():
                os.kill(member.pid, signal.SIGUSR2)

    async def kill_all(self) -> None:
        """The end of a trial, however it went."""
        self._stopped.update(("worker", "updater", "api"))
        for member in self.members:
            member.signal(signal.SIGKILL)
        await asyncio.gather(*(member.ended.wait() for member in self.members))
        for keeper in self._keepers:
            keeper.cancel()

    async def _spawn(self, role: str, environment: Mapping[str, str]) -> Member:
        port = self._port()
        own = {"STREAMS_HTTP_HOST": "127.0.0.1", "STREAMS_HTTP_PORT": str(port)}
        crash = self.crash() if role == "worker" else None
        member = await self._nursery.start(
            role, {**self._environment, **environment, **own}, port, self._log, crash
        )
        self.members.append(member)
        return member

    def _keep(self, member: Member, environment: Mapping[str, str]) -> None:
        task = asyncio.create_task(self._replace(member, environment))
        self._keepers.add(task)
        task.add_done_callback(self._keepers.discard)

    async def _replace(self, member: Member, environment: Mapping[str, str]) -> None:
        await member.ended.wait()
        if member.status == -signal.SIGKILL:
            self.killed += 1
        if member.status != -signal.SIGKILL or not (member.expected or member.crash):
            if member.expected and member.status == 0:
                return  # it was stopped
            self.died.append(f"{member.role} ended with status {member.status}")
        if member in self.members and member.role not in self._stopped:
            self.members.remove(member)
            self._keep(await self._spawn(member.role, environment), environment)


async def _is_ready(client: httpx.AsyncClient, member: Member) -> bool:
    try:
        return (await client.get(f"{member.base}/readyz")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def rss_of(member: Member) -> int:
    """Resident bytes of a process now; 0 if it has ended."""
    try:
        pages = Path(f"/proc/{member.pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
