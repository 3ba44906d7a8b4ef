"""What killed programs left in the folders of unique stacks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from streams.stack import guard
from streams.stack.guard import Process
from streams.stack.model import StackError
from streams.stack.places import Account
from streams.stack.state import FolderLock


def remove_abandoned(parent: Path, name: str, account: Account) -> None:
    """Remove unique stacks whose program and guard were both killed."""
    for folder in parent.glob(f"{name}-*-*"):
        if not folder.name.removeprefix(f"{name}-").replace("-", "").isdecimal():
            continue
        owner = FolderLock(folder).owner()
        if owner is not None and owner.is_alive:
            continue
        lock = FolderLock(folder)
        try:
            lock.acquire()
        except (StackError, OSError):
            continue
        leaders: Mapping[str, Process] = guard.read_leaders(folder)
        if not guard.end(folder, leaders, patience=guard.ABANDONED_PATIENCE_SECONDS):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def empty(folder: Path) -> None:
    """Remove what a process of the same pid left long ago, but for the lock that we hold."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
