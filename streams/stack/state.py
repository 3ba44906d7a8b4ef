"""What a stack's folder remembers: who uses it, what runs, and the passwords."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streams.stack.guard import POLL_SECONDS, STATE_FILE, Process, look
from streams.stack.model import SERVICES, StackError
from streams.stack.ports import Ports

_LOCK_FILE = "lock"
_SECRETS_FILE = "secrets.json"
# A guard whose supervisor died holds the lock until it has cleaned up.
_GUARD_SECONDS = 20.0


@dataclass(frozen=True)
class State:
    """The servers of the last start."""

    ports: Ports
    processes: Mapping[str, Process]
    detached: bool
    """Whether they were started to outlive the program that started them."""

    def save(self, folder: Path) -> None:
        write_private(folder / STATE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """The recorded state; None if there is none, or none that we understand."""
        try:
            raw: dict[str, Any] = json.loads((folder / STATE_FILE).read_bytes())
            processes = {name: Process(*pair) for name, pair in raw["processes"].items()}
            return cls(Ports(**raw["ports"]), processes, bool(raw["detached"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class FolderLock:
    """One user of a folder at a time; the kernel lets go when the process dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOCK_FILE
        self.descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StackError: a living program uses the stack.
        """
        deadline = time.monotonic() + _GUARD_SECONDS
        while not self._try():
            owner = self.owner()
            if (owner and owner.is_alive) or time.monotonic() > deadline:
                by = f" by process {owner.pid}" if owner else ""
                raise StackError(
                    f"the local stack in {self._path.parent} is in use{by}: "
                    "stop that first, or use another name"
                )
            time.sleep(POLL_SECONDS)

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The folder may have been removed and made again between the two calls.
            if os.fstat(descriptor).st_ino == os.stat(self._path).st_ino:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(look(os.getpid())).encode())
                self.descriptor = descriptor
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return False

    def owner(self) -> Process | None:
        """Who took the lock last, alive or not."""
        try:
            return Process(*json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def release(self) -> None:
        """Let go. Harmless if it is not held."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def load_passwords(folder: Path) -> Mapping[str, str]:
    """The servers' passwords, made when a folder is new.

    Raises:
        StackError: there are data, but their passwords are gone.
    """
    path = folder / _SECRETS_FILE
    try:
        found: dict[str, str] = json.loads(path.read_bytes())
        return {name: found[name] for name in SERVICES}
    except FileNotFoundError:
        if (folder / "postgres" / "data").exists():
            raise StackError(
                f"{path} is gone, and with it the way into the data beside it: remove {folder}"
            ) from None
    except (ValueError, KeyError, TypeError):
        raise StackError(f"{path} is damaged: remove {folder}") from None
    # Letters and digits of hex stand in a URL and in each server's configuration without quoting.
    made: dict[str, str] = {name: secrets.token_hex(16) for name in SERVICES}
    write_private(path, made)
    return made


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file, all or nothing, readable by us alone."""
    scratch = path.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
