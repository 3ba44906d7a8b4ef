"""Where a stack keeps its files, and which system account its servers run under."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from streams.stack.model import StackError

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent
# Not /tmp: data should survive a restart of the machine. `make_folder` refuses what another user put there.
_SHARED = "/var/tmp"  # noqa: S108


class RunAs(TypedDict, total=False):
    """Arguments of `subprocess` that drop root's rights in the child."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The account of the servers: our own, or an unprivileged one where we are root."""

    uid: int
    gid: int
    dropped: bool

    @property
    def run_as(self) -> RunAs:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.dropped else {}

    def own(self, path: Path) -> None:
        """Give a file, or a folder with all in it, to the servers' account."""
        if not self.dropped or os.lstat(path).st_uid == self.uid:
            return
        for folder, _, files in os.walk(path):
            os.lchown(folder, self.uid, self.gid)
            for name in files:
                os.lchown(os.path.join(folder, name), self.uid, self.gid)
        os.lchown(path, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Whether the servers may enter this existing folder, all folders above it included."""
        if not self.dropped:
            return os.access(folder, os.X_OK)
        test = ["/usr/bin/test", "-x", str(folder)]
        return subprocess.run(test, check=False, cwd="/", **self.run_as).returncode == 0


def servers_account() -> Account:
    """PostgreSQL refuses to run as root, and the others have no need to."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), dropped=False)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, dropped=True)
    raise StackError("PostgreSQL does not run as root, and there is neither a postgres nor a nobody account")


def configuration(name: str) -> Path:
    """A file under infra/, from the checkout or from inside the installed package."""
    for base in (_CHECKOUT / "infra", _PACKAGE / "_infra"):
        if (base / name).is_file():
            return base / name
    raise StackError(f"the configuration file infra/{name} is missing from this installation")


def default_parent() -> Path:
    """The folder that holds all stacks of this checkout or, without one, of this installation."""
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _CHECKOUT / ".stack"
    return _elsewhere(_CHECKOUT)[0]


def locate(wanted: Path, account: Account) -> Path:
    """The folder to use for a stack: the wanted one, or a substitute where the servers could not work in it.

    A checkout under a root-only home, a read-only one, or one with a blank in its path (RabbitMQ's scripts do
    not quote) has its stacks in the state folder of the system, named after the checkout.
    """
    wanted = Path(os.path.abspath(wanted))
    candidates = [wanted, *(parent / wanted.name for parent in _elsewhere(wanted.parent))]
    for candidate in candidates:
        existing = next(path for path in (candidate, *candidate.parents) if path.exists())
        writable = os.access(existing, os.W_OK | os.X_OK)
        if (
            writable
            and not any(c.isspace() for c in str(candidate))
            and _enters(existing, candidate, account)
        ):
            return candidate
    raise StackError(f"no folder for the servers: tried {', '.join(map(str, candidates))}")


def parents_of(wanted_parent: Path, account: Account) -> list[Path]:
    """Every folder in which `locate` may have put stacks that belong under `wanted_parent`."""
    return [path for path in (wanted_parent, *_elsewhere(wanted_parent)) if path.is_dir()]


def make_folder(folder: Path, account: Account) -> None:
    """Create the stack's folder: closed to others, passable for the servers' account."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        # Above the stack's own folder nothing is to be hidden; a strict umask must not lock the servers out.
        path.chmod(0o711 if account.dropped and path != folder else 0o700)
    if folder.is_symlink() or folder.stat().st_uid not in (os.geteuid(), account.uid):
        if os.geteuid() != 0 or folder.is_symlink():
            raise StackError(f"{folder} belongs to another user: remove it")
        os.chown(folder, 0, account.gid)
    if account.dropped:
        os.chown(folder, 0, account.gid)
        folder.chmod(0o710)


def _enters(existing: Path, candidate: Path, account: Account) -> bool:
    # Our own folder is open to the servers' group only once `make_folder` has been there.
    return account.reaches(existing.parent if existing == candidate else existing)


def _elsewhere(parent: Path) -> list[Path]:
    digest = hashlib.sha256(os.fsencode(parent)).hexdigest()[:12]
    if os.geteuid() == 0:
        state = Path("/var/lib")
    else:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    # The temporary folder is open to all, so the name there carries whose it is.
    return [state / "agent-streams" / digest, Path(_SHARED) / f"agent-streams-{os.geteuid()}-{digest}"]
