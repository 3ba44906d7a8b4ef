"""What the three servers have in common: how one is prepared, started and found ready."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from streams.stack.guard import MARKER
from streams.stack.model import Hardening, StackError
from streams.stack.places import Account, configuration
from streams.stack.ports import LOOPBACK, Ports

USER = "streams"
DATABASE = "streams"

# Debian keeps servers off an ordinary user's PATH.
_SEARCH = os.pathsep.join(
    (
        os.environ.get("PATH", ""),
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    )
)
PROBE_SECONDS = 2.0
_LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Site:
    """Where one run of a stack takes place."""

    folder: Path
    account: Account
    ports: Ports
    passwords: Mapping[str, str]
    hardening: Hardening | None = None

    def home(self, service: str) -> Path:
        """The folder of one server, which belongs to the servers' account."""
        home = self.folder / service
        home.mkdir(mode=0o700, exist_ok=True)
        self.account.own(home)
        return home

    def write_config(self, service: str, name: str, overrides: str) -> Path:
        """Copy a file of infra/ and put this run's ports, paths and password on top."""
        text = configuration(f"{service}/{name}").read_text()
        return self.write(service, name, f"{text}\n# Of this run\n{overrides}" if overrides else text)

    def write(self, service: str, name: str, text: str) -> Path:
        """A file that the servers' account alone can read."""
        target = self.home(service) / name
        target.unlink(missing_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self.account.own(target)
        return target

    def write_certificates(self, service: str) -> Mapping[str, Path]:
        """The files of the hardening, where the server may read them: `ca`, `certificate` and `key`."""
        assert self.hardening is not None
        names = ("ca", "certificate", "key")
        return {n: self.write(service, f"{n}.pem", getattr(self.hardening, n).read_text()) for n in names}

    def query(self, **parameters: str) -> str:
        """What the URL of a server with TLS ends in."""
        return "" if self.hardening is None else f"?{urlencode(parameters, safe='/')}"

    def connect(self, port: int) -> socket.socket:
        """A connection to one of the servers as its clients make it; for probes."""
        plain = socket.create_connection((LOOPBACK, port), PROBE_SECONDS)
        if self.hardening is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.hardening.ca))
        try:
            return context.wrap_socket(plain, server_hostname=LOOPBACK)
        except BaseException:
            plain.close()
            raise

    def environment(self, service: str) -> dict[str, str]:
        """Nothing is inherited: a PGDATA or RABBITMQ_* of the caller's shell means another server."""
        return {
            "PATH": _SEARCH,
            "HOME": str(self.home(service)),
            "LC_ALL": "C.UTF-8",
            MARKER: str(self.folder),
        }

    def run(self, service: str, command: Sequence[str], *, stdin: str = "") -> None:
        """Run a preparing command as the servers' account.

        Raises:
            StackError: it failed; with what it said.
        """
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, start_new_session=True,
            cwd=self.home(service), env=self.environment(service), umask=0o077, **self.account.run_as,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise StackError(f"{Path(command[0]).name} failed with status {done.returncode}: {said}")

    def spawn(
        self, service: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a server in its own session: no Ctrl-C reaches it, and all its children are known."""
        with _fresh_log(self.log(service)) as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd=self.home(service), env={**self.environment(service), **variables}, umask=0o077,
                **self.account.run_as,
            )  # fmt: skip

    def log(self, service: str) -> Path:
        """All that a server has said since its start; what it said before is beside it, with `.1`."""
        return self.folder / f"{service}.log"

    def log_tail(self, service: str) -> str:
        """The log's last lines, for an error message."""
        with contextlib.suppress(OSError):
            lines = self.log(service).read_text(errors="replace").splitlines()
            return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])
        return ""


class Server(Protocol):
    """One server of the stack."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Write configuration, and create the data folder where there is none."""

    def command(self) -> Sequence[str]: ...

    def variables(self) -> Mapping[str, str]:
        """Environment variables beside the common ones."""

    def is_ready(self) -> bool:
        """Whether it answers in its own protocol, asked as its clients will."""


def find_binary(name: str, *places: str | Path) -> str:
    """A program, looked for in these places first.

    Raises:
        StackError: it is not installed.
    """
    for place in places:
        if os.access(Path(place) / name, os.X_OK):
            return str(Path(place) / name)
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise StackError(
            f"{name} is not installed: run `make setup`, "
            "or set AMQP_URL, DATABASE_URL and REDIS_URL to servers"
        )
    return found


@contextlib.contextmanager
def _fresh_log(path: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
