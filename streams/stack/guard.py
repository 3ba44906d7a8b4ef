"""How a stack's processes are recognised and ended, and the guard that outlives a killed supervisor.

The guard runs this file by its path: importing the package would make an idle process carry all its
dependencies. So this module imports the standard library only, nothing beside it.

A process belongs to a stack if its environment names the stack's folder, if it is in the session that a
recorded server leads, or if it is a PostgreSQL that works in that folder: PostgreSQL's children lead sessions
of their own and overwrite their environment with their title. One that computes outlives its killed parent by
as long as it computes, and no other server starts on its data meanwhile.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MARKER = "AGENT_STREAMS_STACK"
STATE_FILE = "state.json"

# PostgreSQL takes SIGTERM for "wait until every client has left"; SIGINT is its fast shutdown.
POLITE = {"postgres": signal.SIGINT, "redis": signal.SIGTERM, "rabbitmq": signal.SIGTERM}
POLL_SECONDS = 0.03
# Enough for PostgreSQL and Redis. RabbitMQ's orderly stop takes six seconds, five of them a wait in its
# management agent; what it confirmed is on disk.
ABANDONED_PATIENCE_SECONDS = 2.0


class Process(NamedTuple):
    """A process by pid and start time: a pid alone may mean another one by now."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        return look(self.pid) == self


def look(pid: int) -> Process | None:
    """The process that has this pid now; None if there is none, or only its unreaped remains."""
    stat = _stat(pid)
    return stat[0] if stat else None


def read_leaders(folder: Path) -> dict[str, Process]:
    """The servers that the folder's state file records, whether or not they still run."""
    try:
        state = json.loads((folder / STATE_FILE).read_bytes())
        return {name: Process(*pair) for name, pair in state["processes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def members(folder: Path, leaders: Collection[Process]) -> set[Process]:
    """Every living process of the stack."""
    marked = {process for process, _ in _processes() if _is_marked(process, folder)}
    return marked | session_members(leaders) | backends(folder)


def backends(folder: Path) -> set[Process]:
    """Every living process of PostgreSQL whose data lie in the folder."""
    home = f"{os.path.realpath(folder)}{os.sep}"
    return {process for process, _ in _processes() if _is_backend(process, home)}


def session_members(leaders: Collection[Process]) -> set[Process]:
    """Every living process in a session that one of these leads, or led."""
    sessions = set()
    for leader in leaders:
        now = look(leader.pid)
        # A pid is not given away while its session has members: a leader of another age is a stranger.
        if now is None or now == leader:
            sessions.add(leader.pid)
    return {process for process, session in _processes() if session in sessions}


def end(folder: Path, leaders: Mapping[str, Process], *, patience: float) -> set[Process]:
    """Ask the stack's servers to stop, kill what is left after `patience` seconds; returns what survives."""
    ask(leaders, patience=patience)
    # The port mapper has no polite way to stop, and what a server left behind has lost its purpose.
    return kill(lambda: members(folder, leaders.values()))


def ask(leaders: Mapping[str, Process], *, patience: float) -> None:
    """Send each server the signal of its orderly shutdown, and wait up to `patience` seconds for all."""
    asked = [(name, leader) for name, leader in leaders.items() if name in POLITE]
    for name, leader in asked:
        send(leader, POLITE[name])
    deadline = time.monotonic() + patience
    while any(leader.is_alive for _, leader in asked) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def kill(find: Callable[[], set[Process]], *, patience: float = 5) -> set[Process]:
    """SIGKILL all that `find` reports until it reports nothing; returns what survives."""
    deadline = time.monotonic() + patience
    while (rest := find()) and time.monotonic() < deadline:
        for process in rest:
            send(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return rest


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal, unless the process is gone and its pid perhaps another's."""
    if process.is_alive:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _processes() -> Iterator[tuple[Process, int]]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (stat := _stat(int(entry))):
            yield stat


def _stat(pid: int) -> tuple[Process, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the command's name, which may hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    state, session, started = fields[0], int(fields[3]), int(fields[19])
    return None if state in b"ZX" else (Process(pid, started), session)


def _is_marked(process: Process, folder: Path) -> bool:
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return f"{MARKER}={folder}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _is_backend(process: Process, home: str) -> bool:
    try:
        # By name, too: a person may look around in there with a shell.
        with open(f"/proc/{process.pid}/comm") as file:
            return file.read() == "postgres\n" and os.readlink(f"/proc/{process.pid}/cwd").startswith(home)
    except OSError:
        return False


def watch(folder: Path, supervisor: int, *, remove_folder: bool) -> None:
    """Wait until the supervisor is gone, then end what it left running.

    Standard input is a pipe whose other end the supervisor holds. A child that the supervisor forked may
    hold it, too, so the parent's pid is looked at as well.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == supervisor and not select.select([0], [], [], 0.5)[0]:
        pass
    end(folder, read_leaders(folder), patience=ABANDONED_PATIENCE_SECONDS)
    if remove_folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]), remove_folder=sys.argv[3] == "remove")
