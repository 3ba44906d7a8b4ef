"""A private PostgreSQL, Redis and RabbitMQ from the binaries of this machine."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from streams.stack import guard
from streams.stack.guard import POLL_SECONDS, Process, look
from streams.stack.leftovers import empty, remove_abandoned
from streams.stack.model import (
    SERVICES,
    Hardening,
    PortTakenError,
    Service,
    ServiceStatus,
    StackError,
    StackStatus,
    StackUrls,
)  # fmt: skip
from streams.stack.places import default_parent, locate, make_folder, parents_of, servers_account
from streams.stack.ports import pick_ports
from streams.stack.postgres import Postgres
from streams.stack.rabbitmq import PortMapper, RabbitMQ
from streams.stack.redis import Redis
from streams.stack.server import Server, Site
from streams.stack.state import FolderLock, State, load_passwords

START_SECONDS = 90.0
STOP_SECONDS = 20.0
_PORT_ATTEMPTS = 3

_numbers = itertools.count(1)


class LocalStack:
    """Three private servers on 127.0.0.1, on free ports, with their data in a folder of their own.

        with LocalStack("demo") as urls:
            ...

    They end with the program that started them, even if that is killed, unless `die_with_parent` is false:
    then they run until someone calls `stop` under the same name.

    Args:
        name: stacks of different names are independent; one name has one user at a time.
        root: the folder; `.stack/<name>` in the checkout if not given. See `folder` for the one in use.
        die_with_parent: whether the servers end with this process.
        hardening: TLS on every listener, as in production; a stack that stays does not remember it.
        unique: a fresh stack of this process's own, `<name>-<pid>-<n>`, whose folder goes when it stops.

    Raises:
        StackError: from any method, if it cannot be done.
    """

    def __init__(
        self,
        name: str,
        root: Path | None = None,
        *,
        die_with_parent: bool = True,
        unique: bool = False,
        hardening: Hardening | None = None,
    ) -> None:
        if not name or not all(c.isalnum() or c in "-_" for c in name):
            raise StackError(f"{name!r} is no name for a stack: letters, digits, - and _ are allowed")
        if not Path("/proc/self/stat").exists():
            raise StackError(
                "the local stack needs Linux: set AMQP_URL, DATABASE_URL and REDIS_URL to servers"
            )
        self._account = servers_account()
        wanted = root or default_parent() / name
        if unique:
            wanted = wanted.with_name(f"{wanted.name}-{os.getpid()}-{next(_numbers)}")
        self.name = wanted.name if unique else name
        self.folder = locate(wanted, self._account)
        """Where the servers' data, logs and passwords are."""
        self._base_name = name if root is None else root.name
        self._unique = unique
        self._hardening = hardening
        self._detached = not die_with_parent
        self._lock = FolderLock(self.folder)
        self._site: Site | None = None
        self._servers: dict[str, Server] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._leaders: dict[str, Process] = {}

    def __enter__(self) -> StackUrls:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def urls(self) -> StackUrls:
        """Where the servers of this started stack are."""
        return _urls(self._started())

    def start(self) -> StackUrls:
        """Clean up what an earlier run left, start the servers, and wait until all of them answer."""
        if self._site is not None:
            raise StackError(f"the stack {self.name} is started already")
        if self._unique:
            remove_abandoned(self.folder.parent, self._base_name, self._account)
        make_folder(self.folder, self._account)
        self._lock.acquire()
        if self._is_up_on_purpose():
            return self._join()
        try:
            self._end_processes(patience=guard.ABANDONED_PATIENCE_SECONDS)
            if self._unique:
                empty(self.folder)
            return self._start_on_free_ports()
        except BaseException:
            self._undo()
            raise

    def _is_up_on_purpose(self) -> bool:
        state = State.load(self.folder)
        return state is not None and state.detached and all(p.is_alive for p in state.processes.values())

    def _join(self) -> StackUrls:
        self._lock.release()
        urls = self.status().urls
        if not self._detached or urls is None:
            raise StackError(
                f"the local stack {self.name} is up already: "
                f"stop it with `streams stack down --name {self.name}`, or use its URLs"
            )
        return urls

    def _start_on_free_ports(self) -> StackUrls:
        passwords = load_passwords(self.folder)
        if not self._detached:
            self._guard = self._start_guard()
        for attempts_left in reversed(range(_PORT_ATTEMPTS)):
            try:
                self._start_all(Site(self.folder, self._account, pick_ports(), passwords, self._hardening))
                break
            except PortTakenError:
                if not attempts_left:
                    raise
                self._end_processes(patience=STOP_SECONDS)
        site = self._started()
        if self._detached:
            State(site.ports, self._leaders, detached=True).save(self.folder)
            RELEASED.extend(self._children.values())
            self._children.clear()
            self._lock.release()
        return _urls(site)

    def _start_all(self, site: Site) -> None:
        self._site = site
        # The slowest first: PostgreSQL's first start creates its data folder while RabbitMQ boots.
        self._servers = {s.name: s for s in (PortMapper(site), RabbitMQ(site), Redis(site), Postgres(site))}
        for server in self._servers.values():
            server.prepare()
            self._spawn(server)
            if server.name == PortMapper.name:
                self._wait_until_ready(server.name)
        self._wait_until_ready(*SERVICES)

    def _spawn(self, server: Server) -> None:
        site = self._started()
        child = site.spawn(server.name, server.command(), server.variables())
        self._children[server.name] = child
        # Until it is waited for, even a child that died at once keeps its place in the process table.
        self._leaders[server.name] = look(child.pid) or Process(child.pid, 0)
        State(site.ports, self._leaders, detached=False).save(self.folder)

    def _wait_until_ready(self, *names: str) -> None:
        waiting = set(names)
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            for name in sorted(waiting):
                status = self._children[name].poll()
                if status is not None:
                    raise self._failure(name, f"ended with status {status}")
                if self._servers[name].is_ready():
                    waiting.discard(name)
            if waiting and time.monotonic() > deadline:
                raise self._failure(min(waiting), f"was not ready after {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _failure(self, name: str, what: str) -> StackError:
        site = self._started()
        tail = site.log_tail(name)
        taken = "address already in use" in tail.lower() or "eaddrinuse" in tail.lower()
        message = f"{name} {what}; the end of {site.log(name)}:\n{tail}"
        return PortTakenError(message) if taken else StackError(message)

    def stop(self) -> None:
        """Shut the servers down in order, make sure that nothing is left, free the name.

        Harmless if nothing runs. Also ends what another program left running under this name on purpose.
        """
        if not self.folder.is_dir():
            return
        if self._lock.descriptor is None:
            self._lock.acquire()
        self._undo()

    def _undo(self) -> None:
        try:
            if self._unique and (rabbitmq := self._leaders.get("rabbitmq")):
                # Its orderly shutdown takes six seconds to save what is deleted next. PostgreSQL is asked all
                # the same: killed, it leaves shared memory behind.
                guard.kill(lambda: guard.session_members([rabbitmq]))
            self._end_processes(patience=STOP_SECONDS)
            self._site = None
        finally:
            # Even if a process survived, nobody is served by a lock that is never given back.
            self._release_guard()
            if self._unique:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _end_processes(self, *, patience: float) -> None:
        leaders = {**guard.read_leaders(self.folder), **self._leaders}
        left = guard.end(self.folder, leaders, patience=patience)
        for child in self._children.values():
            child.wait()
        self._children.clear()
        self._leaders.clear()
        if left:
            raise StackError(f"processes of {self.folder} survive SIGKILL: {sorted(p.pid for p in left)}")
        (self.folder / guard.STATE_FILE).unlink(missing_ok=True)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        assert self._lock.descriptor is not None
        return subprocess.Popen(
            [
                sys.executable, "-I", "-S", guard.__file__, str(self.folder), str(os.getpid()),
                "remove" if self._unique else "keep",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # The lock is the guard's, too: nobody starts here until it has cleaned up after us.
            start_new_session=True, cwd="/", pass_fds=(self._lock.descriptor,),
        )  # fmt: skip

    def _release_guard(self) -> None:
        if self._guard is None:
            return
        if self._guard.stdin:
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None

    def kill(self, service: Service) -> None:
        """SIGKILL a server with all its children, and wait until they are gone."""
        self._end_service(service, patience=0)

    def stop_service(self, service: Service) -> None:
        """Shut one server down in order; its port stays its own."""
        self._end_service(service, patience=STOP_SECONDS)

    def _end_service(self, service: Service, *, patience: float) -> None:
        self._started()
        leader = self._leaders[service]
        if patience:
            guard.ask({service: leader}, patience=patience)
        home = self.folder / service
        if left := guard.kill(lambda: guard.session_members([leader]) | guard.backends(home)):
            raise StackError(f"processes of {service} survive SIGKILL: {sorted(p.pid for p in left)}")
        self._children[service].wait()

    def start_service(self, service: Service) -> None:
        """Start a killed or stopped server again, on the same port and data, and wait until it answers."""
        self._started()
        if self._children[service].poll() is None:
            return
        self._servers[service].prepare()
        self._spawn(self._servers[service])
        self._wait_until_ready(service)

    def status(self) -> StackStatus:
        """What runs under this name, whoever started it."""
        state = State.load(self.folder)
        if state is None:
            return StackStatus(self.name, self.folder, "down", None, (), None)
        services = []
        for name in SERVICES:
            process = state.processes.get(name)
            running = process is not None and process.is_alive
            port = state.ports.amqp if name == "rabbitmq" else getattr(state.ports, name)
            services.append(ServiceStatus(name, running, process.pid if process and running else None, port))
        up = [service.running for service in services]
        owner = None if state.detached else FolderLock(self.folder).owner()
        return StackStatus(
            self.name,
            self.folder,
            "up" if all(up) else "partial" if any(up) else "down",
            owner.pid if owner and owner.is_alive else None,
            tuple(services),
            _urls(Site(self.folder, self._account, state.ports, load_passwords(self.folder), self._hardening))
            if any(up)
            else None,
        )

    @classmethod
    def names(cls) -> list[str]:
        """The stacks of this checkout that have a folder, running or not."""
        folders = parents_of(default_parent(), servers_account())
        return sorted({path.name for parent in folders for path in parent.iterdir() if path.is_dir()})

    def _started(self) -> Site:
        if self._site is None:
            raise StackError(f"the stack {self.name} is not started")
        return self._site


# Servers that outlive us on purpose. Dropping their handles would warn of children still running.
RELEASED: list[subprocess.Popen[bytes]] = []


def _urls(site: Site) -> StackUrls:
    rabbitmq = RabbitMQ(site)
    return StackUrls(rabbitmq.url, Postgres(site).url, Redis(site).url, rabbitmq.management_url)
