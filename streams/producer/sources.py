"""Lines out of files and pipes, in chunks; never more than one chunk in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from schemas.errors import ConfigurationError

CHUNK_LINES: Final = 1000
_BOM: Final = b"\xef\xbb\xbf"

Line = tuple[int, bytes | None]
"""A line's number, counted from 1, and its text; None: it is too long to be read."""


class Lines:
    """The lines of a file or a pipe, from number `first` on.

    Attributes:
        twice: they can be read again: it is a regular file, also as standard input.
    """

    def __init__(self, file: BinaryIO, max_bytes: int, first: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._first = first
        self.twice = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._start = file.tell() if self.twice else 0

    def read(self) -> Iterator[Line]:
        if self.twice:
            self._file.seek(self._start)
        return read_lines(self._file, self._max_bytes, self._first)

    async def chunks(self, stop: asyncio.Event) -> AsyncIterator[list[Line]]:
        """The lines in chunks: full ones of a file; of a pipe, what has come by now. Ends with `stop`."""
        if not self.twice:
            async for chunk in self._arriving(stop):
                yield chunk
            return
        lines = self.read()
        while not stop.is_set() and (chunk := list(islice(lines, CHUNK_LINES))):
            yield chunk

    async def _arriving(self, stop: asyncio.Event) -> AsyncIterator[list[Line]]:
        arrived = asyncio.Event()
        lines: queue.Queue[Line | None] = queue.Queue(CHUNK_LINES)
        loop = asyncio.get_running_loop()

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants any more
                for line in self.read():
                    lines.put(line)
                    loop.call_soon_threadsafe(arrived.set)
                lines.put(None)
                loop.call_soon_threadsafe(arrived.set)

        # A daemon: reading a pipe that stays silent cannot be interrupted, and must not keep us here.
        threading.Thread(target=read, daemon=True).start()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: arrived.set())
        try:
            ended = False
            while not ended:
                await arrived.wait()
                if stop.is_set():
                    return
                arrived.clear()
                while chunk := _taken(lines):
                    ended = chunk[-1] is None
                    yield [line for line in chunk if line is not None]
        finally:
            stopping.cancel()


def _taken(lines: queue.Queue[Line | None]) -> list[Line | None]:
    """What has come by now, up to a chunk."""
    chunk: list[Line | None] = []
    with contextlib.suppress(queue.Empty):
        while len(chunk) < CHUNK_LINES:
            chunk.append(lines.get_nowait())
    return chunk


@contextlib.contextmanager
def opened(path: Path | None, max_bytes: int, first: int) -> Iterator[Lines]:
    """The lines of a file, or of standard input for None and "-".

    Raises:
        ConfigurationError: the file cannot be read.
    """
    standard = path is None or str(path) == "-"
    try:
        # Not sys.stdin: at its end the interpreter would wait for the thread that reads it.
        file = open(0 if path is None or standard else path, "rb", closefd=not standard)  # noqa: SIM115
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    if standard:
        yield Lines(file, max_bytes, first)
        return
    with file:
        yield Lines(file, max_bytes, first)


def read_lines(file: BinaryIO, max_bytes: int, first: int = 1) -> Iterator[Line]:
    """The lines of a file from number `first` on, without empty ones; never more than one in memory."""
    number = 0
    while text := file.readline(max_bytes + 1):
        number += 1
        whole = text.endswith(b"\n") or len(text) <= max_bytes
        if not whole:
            _skip_line(file, max_bytes)
        if number == 1:
            text = text.removeprefix(_BOM)
        if number >= first and text.strip():
            yield number, text if whole else None


def _skip_line(file: BinaryIO, size: int) -> None:
    while (part := file.readline(size)) and not part.endswith(b"\n"):
        pass
