"""What processes cost, from /proc: CPU of whole process trees, memory over time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """Seconds of CPU of a process, and of its children that ended and were waited for."""

    parent: int
    own: float
    ended: float


class Machine(NamedTuple):
    """Seconds that all processors together were busy, idle, and taken away by the host."""

    busy: float
    idle: float
    stolen: float


def stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    user, system, user_ended, system_ended = map(int, fields[11:15])
    return Stat(int(fields[1]), (user + system) * _TICK, (user_ended + system_ended) * _TICK)


def everything() -> dict[int, Stat]:
    return {int(name): found for name in os.listdir("/proc") if name.isdigit() and (found := stat(int(name)))}


def tree(root: int, stats: Mapping[int, Stat]) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, found in stats.items():
        children.setdefault(found.parent, []).append(pid)
    members, left = [], [root]
    while left:
        pid = left.pop()
        if pid in stats:
            members.append(pid)
        left += children.get(pid, ())
    return members


def cpu_seconds(roots: Mapping[str, int], without: int = 0) -> dict[str, float]:
    """CPU of each process tree until now, members that ended included.

    Args:
        roots: process ids by name.
        without: a process that is left out: our own session in PostgreSQL.
    """
    stats = everything()
    return {
        name: sum(stats[pid].own + stats[pid].ended for pid in tree(root, stats) if pid != without)
        for name, root in roots.items()
    }


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def machine() -> Machine:
    fields = [int(word) * _TICK for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    user, nice, system, idle, waiting, interrupts, soft, stolen = fields
    return Machine(user + nice + system + interrupts + soft, idle + waiting, stolen)


@dataclass(slots=True)
class Memory:
    """Resident memory of some processes over time; the largest member of a tree stands for it."""

    pids: Mapping[str, list[int]]
    interval: float = 0.25
    times: list[float] = field(default_factory=list)
    """Seconds since the sampling began."""
    series: dict[str, list[int]] = field(default_factory=dict)
    """Bytes by name, in step with `times`."""

    @classmethod
    def of(cls, roots: Mapping[str, int], interval: float = 0.25) -> Memory:
        stats = everything()
        return cls({name: tree(root, stats) for name, root in roots.items()}, interval)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()

    async def _sample(self) -> None:
        begun = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                self.times.append(time.monotonic() - begun)
                for name, pids in self.pids.items():
                    largest = max(map(resident_bytes, pids), default=0)
                    self.series.setdefault(name, []).append(largest)
                await asyncio.sleep(self.interval)
