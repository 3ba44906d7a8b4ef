"""What figures depend on: machine, versions, settings."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

_TEXT: Final = "what is said " * 20
_LIBRARIES: Final = ("aio-pika", "aiormq", "asyncpg", "faststream", "opentelemetry-sdk", "pydantic", "uvloop")


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "reference_ms": round(reference_ms(), 2),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "settings": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("STREAMS_", "OTEL_BSP_"))
        },
    }


def reference_ms() -> float:
    """Milliseconds that a fixed piece of Python takes now (median of 15): the same machine may be twice as
    fast in another hour, and no figure of a run would tell."""
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        for number in range(2_000):
            orjson.loads(orjson.dumps({"id": str(number), "data": {"text": _TEXT, "number": number}}))
        times.append(time.perf_counter() - begun)
    return median(times) * 1000


def _commit() -> str:
    """The checkout's commit, with a + if files other than docs differ; empty outside of a checkout."""
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short", "HEAD"),
                ("status", "--porcelain", "-uno", "--", ":/", ":/!docs"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")
