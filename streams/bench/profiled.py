"""`python -m streams.bench.profiled OUT MODULE ARGUMENTS..`: runs a module, and writes where its CPU went.

A timer of CPU time (SIGPROF) samples the main thread's stack; each sample weighs the CPU that this thread has
used since the one before, so other threads and waiting do not count. OUT gets collapsed stacks, one a line
with its microseconds, as flame graph tools read them; what other threads used is `(other threads)`.
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

INTERVAL: Final = 0.004
OTHER_THREADS: Final = "(other threads)"


class Sampler:
    """Collapsed stacks and their microseconds."""

    def __init__(self) -> None:
        self.stacks: Counter[str] = Counter()
        self._last = time.thread_time_ns()
        self._begun = time.process_time_ns()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        others = (time.process_time_ns() - self._begun) // 1000 - self.stacks.total()
        self.stacks[OTHER_THREADS] = max(0, others)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now = time.thread_time_ns()
        names = []
        while frame is not None:
            code = frame.f_code
            names.append(f"{short(code.co_filename)}:{code.co_name}")
            frame = frame.f_back
        self.stacks[";".join(reversed(names))] += (now - self._last) // 1000
        self._last = now


def short(path: str) -> str:
    """A file's name below its package: no line holds a path of this machine."""
    _, found, tail = path.rpartition("site-packages/")
    if found:
        return tail
    parts = Path(path).parts
    for package in ("streams", "handlers", "schemas"):
        if package in parts:
            return "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :])
    return parts[-1] if parts else path


def main() -> None:
    out, module, *arguments = sys.argv[1:]
    sampler = Sampler()
    sampler.start()
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sampler.stop()
        Path(out).write_text("".join(f"{stack} {us}\n" for stack, us in sampler.stacks.most_common()))


if __name__ == "__main__":
    main()
