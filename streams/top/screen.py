"""The terminal while `streams top` runs: frames, keys, and everything as it was afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from streams.top.frame import SORTS, SPANS, Options, frame
from streams.top.history import History
from streams.top.view import View
from streams.top.watching import Watching


class Screen:
    """Reads and draws until the user has seen enough.

    Args:
        stop: set from outside (a signal), it ends the run, too.
    """

    def __init__(self, watching: Watching, console: Console, interval: float, stop: asyncio.Event) -> None:
        self._watching = watching
        self._console = console
        self._stop = stop
        self._options = Options(interval)
        self._history = History()
        self._view: View | None = None
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until `q`, Ctrl-C or `stop`."""
        with (
            Live(console=self._console, screen=True, auto_refresh=False, transient=True) as live,
            _keys(self._press),
        ):
            while not self._stop.is_set():
                if not self._options.paused or self._view is None:
                    self._view = await self._watching.look()
                    self._history.add(self._view)
                    self._options = replace(self._options, clock=time.strftime("%H:%M:%S"))
                await self._show(live)

    async def _show(self, live: Live) -> None:
        """Draw, and again for each key or change of size, until the next reading is due."""
        due = asyncio.get_running_loop().time() + self._options.interval
        while not self._stop.is_set():
            assert self._view is not None
            size = os.get_terminal_size(self._console.file.fileno())
            live.update(
                frame(self._view, self._history, self._options, width=size.columns, height=size.lines),
                refresh=True,
            )
            left = due - asyncio.get_running_loop().time()
            if left <= 0:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                # In pieces, so that a window that changes its size is drawn anew at once.
                await asyncio.wait_for(self._wake.wait(), min(left, 0.5))

    def _press(self, key: str) -> None:
        options = self._options
        if key in ("q", "Q", "\x03", "\x1b"):
            self._stop.set()
        elif key in ("p", " "):
            self._options = replace(options, paused=not options.paused)
        elif key == "s":
            self._options = replace(options, sort=SORTS[(SORTS.index(options.sort) + 1) % len(SORTS)])
        elif key == "z":
            self._options = replace(options, span=SPANS[(SPANS.index(options.span) + 1) % len(SPANS)])
        self._wake.set()


@contextlib.contextmanager
def _keys(press: Callable[[str], None]) -> Iterator[None]:
    """Keys one by one, while standard input is a terminal."""
    descriptor = sys.stdin.fileno()
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        for key in os.read(descriptor, 64).decode(errors="ignore"):
            press(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
