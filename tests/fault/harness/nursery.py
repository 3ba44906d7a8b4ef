"""Forks the service's processes: it has imported everything once, so that a start costs milliseconds.

Each line on standard input asks for a process: {"role", "env", "log", "crash": [point, batch] or null}; each
line on standard output tells: {"started": pid} in the order asked, {"ended": pid, "status": as waitpid}. At
the end of input every child is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import sys
from typing import Any, Final

import uvloop

from schemas.contract import Store
from streams.api import serve
from streams.app import Service
from streams.settings import Settings
from streams.telemetry import configure_logging
from tests.fault.harness.points import crash_at

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
_ROLES: Final = {"worker": Store.POSTGRES, "updater": Store.REDIS}


def _be(order: dict[str, Any]) -> None:
    """Become what was asked for; never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        with open(os.devnull, "rb") as nothing, open(order["log"], "ab") as log:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ.clear()
        os.environ.update(order["env"])
        signal.signal(signal.SIGUSR2, _show_tasks)
        if order["crash"] is not None:
            crash_at(*order["crash"])
        settings = Settings.load()
        configure_logging(settings.log_level, json=settings.log_json)
        if order["role"] == "api":
            serve(settings)
        else:
            uvloop.run(Service(settings, _ROLES[order["role"]]).run())
        status = 0
    except BaseException:  # noqa: BLE001 - it goes no further: the exit status and the log tell
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _show_tasks(*_: object) -> None:
    """For the log of a process that does not come to rest."""
    for task in asyncio.all_tasks(asyncio.get_event_loop()):
        task.print_stack()


def _tell(line: dict[str, int]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _reap(children: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            children.discard(ended[0])
            _tell({"ended": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})


def main() -> None:
    bell, ringer = os.pipe()
    os.set_blocking(ringer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ringer)
    gc.collect()
    gc.freeze()  # children share these pages
    children: set[int] = set()
    pending = b""
    while True:
        readable, _, _ = select.select([0, bell], [], [])
        if bell in readable:
            os.read(bell, 4096)
        _reap(children)
        if 0 not in readable:
            continue
        chunk = os.read(0, 65_536)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                _be(json.loads(line))
            children.add(pid)
            _tell({"started": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
