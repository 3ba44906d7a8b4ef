"""Several servers of a kind on one machine, made of the local stack's parts and its configuration files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from streams.stack import guard
from streams.stack.guard import MARKER, Process, look
from streams.stack.places import default_parent, locate, make_folder, servers_account
from streams.stack.ports import pick_ports
from streams.stack.server import Server, Site
from streams.stack.state import State

READY_SECONDS: Final = 120.0


@dataclass(frozen=True)
class NodeSite(Site):
    """Where one node is: a folder of its own inside the cluster's, by which its processes are known."""

    cluster: Path = field(default_factory=Path)

    def environment(self, service: str) -> dict[str, str]:
        return {**super().environment(service), MARKER: str(self.cluster)}


class Nodes:
    """The nodes of one cluster; they end with this program, even if it is killed.

    Args:
        name: of the folder.
        passwords: by service, as in `Site.passwords`; the same for all nodes.
    """

    def __init__(self, name: str, passwords: dict[str, str]) -> None:
        self._account = servers_account()
        self.folder = locate(default_parent() / f"{name}-{os.getpid()}", self._account)
        self._passwords = passwords
        self._leaders: dict[str, Process] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._servers: dict[str, Server] = {}
        self._sites: dict[str, NodeSite] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def site(self, name: str) -> NodeSite:
        """A new place for a node."""
        if self._guard is None:
            make_folder(self.folder, self._account)
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(self.folder), str(os.getpid()), "remove"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        folder = self.folder / name
        make_folder(folder, self._account)
        site = NodeSite(folder, self._account, pick_ports(), self._passwords, cluster=self.folder)
        self._sites[name] = site
        return site

    def start(self, name: str, server: Server, *, prepare: bool = True) -> None:
        """Start a node; `ready` waits for it."""
        site = self._sites[name]
        if prepare:
            server.prepare()
        child = site.spawn(server.name, server.command(), server.variables())
        self._children[name], self._servers[name] = child, server
        self._leaders[name] = look(child.pid) or Process(child.pid, 0)
        # For the guard, which looks for the leaders' sessions.
        State(site.ports, self._leaders, detached=False).save(self.folder)

    def ready(self, *names: str) -> None:
        """Wait until these nodes answer.

        Raises:
            AssertionError: one ended, or does not answer in two minutes.
        """
        deadline = time.monotonic() + READY_SECONDS
        for name in names:
            while not self._servers[name].is_ready():
                ended = self._children[name].poll()
                assert ended is None, f"{name} ended with {ended}:\n{self.log_tail(name)}"
                assert time.monotonic() < deadline, f"{name} does not answer:\n{self.log_tail(name)}"
                time.sleep(0.1)

    def log_tail(self, name: str) -> str:
        return self._sites[name].log_tail(self._servers[name].name)

    def kill(self, name: str) -> None:
        """SIGKILL to a node and all its children."""
        # All at once: a child that is frozen would not notice that its parent is gone.
        self._signal(name, signal.SIGKILL)
        self._children[name].wait()
        leader = self._leaders[name]
        home = self._sites[name].folder
        left = guard.kill(lambda: guard.session_members([leader]) | guard.backends(home))
        assert not left, f"processes of {name} survive SIGKILL"

    def again(self, name: str) -> None:
        """Start a killed node on its old data."""
        self.start(name, self._servers[name])

    def freeze(self, name: str) -> None:
        """A node that nobody can reach and whose connections stay open: as a cut cable looks from outside."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def signal_children(self, name: str, title: str, number: signal.Signals) -> None:
        """Signal those of a node's processes that have a word in their title; there must be one."""
        leader = psutil.Process(self._leaders[name].pid)
        found = [child for child in leader.children(recursive=True) if title in " ".join(child.cmdline())]
        assert found, f"{name} has no {title}"
        for child in found:
            child.send_signal(number)

    def _signal(self, name: str, number: signal.Signals) -> None:
        # By descent: each of PostgreSQL's children has a session of its own.
        leader = psutil.Process(self._leaders[name].pid)
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def close(self) -> None:
        """End all nodes at once and remove their data."""
        for name, child in self._children.items():
            if child.poll() is None:
                self.kill(name)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()  # it ends what is left, and removes the folder
            self._guard.wait(timeout=30)


@contextmanager
def nodes(name: str, passwords: dict[str, str]) -> Iterator[Nodes]:
    here = Nodes(name, passwords)
    try:
        yield here
    finally:
        here.close()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds:.0f} s"
        time.sleep(0.1)
