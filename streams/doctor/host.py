"""Checks of the machine that the command runs on; of the servers, too, where they are on it."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Final

from streams.doctor.model import Finding, check, critical, ok, unknown, unless
from streams.doctor.patient import Patient
from streams.doctor.words import size

_BASELINE: Final = "Baseline: resource metrics"
_MIB: Final = 1024 * 1024


def _proc(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _memory() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    rows = (line.split() for line in (_proc("/proc/meminfo") or "").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) >= 2 and row[1].isdigit()}


@check(
    "host.cores",
    "processors that we may use",
    target="≥ 2",
    remedy="Give worker and database a core each: on one they take turns.",
    guide=_BASELINE,
)
async def cores(_: Patient) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return unless(usable >= 2, usable)


@check(
    "host.load",
    "the load of the last five minutes, for each core",
    target="< 1.5",
    remedy="Find who takes the processors (top); more cores, or fewer processes.",
    page="docs/runbook.md#highcpu",
    guide="Troubleshooting: high CPU usage",
)
async def load(_: Patient) -> Finding:
    each = os.getloadavg()[1] / (os.cpu_count() or 1)
    return unless(each < 1.5, f"{each:.2f}")


@check(
    "host.memory",
    "memory that programs can still get",
    target="> 10 %",
    remedy="Lower shared_buffers, maxmemory or the number of processes, or add memory.",
    guide=_BASELINE,
)
async def memory(_: Patient) -> Finding:
    found = _memory()
    total, free = found.get("MemTotal"), found.get("MemAvailable")
    if not total or free is None:
        return unknown("not told on this platform")
    measured = f"{size(free)} of {size(total)}"
    if free < 0.03 * total:
        return critical(measured)
    return unless(free > 0.1 * total, measured)


@check(
    "host.swap",
    "memory that was swapped out",
    target="< 256 MB",
    remedy="Give Redis and PostgreSQL less, or the machine more: a swapped Redis stalls.",
)
async def swap(_: Patient) -> Finding:
    found = _memory()
    used = found.get("SwapTotal", 0) - found.get("SwapFree", 0)
    return unless(used < 256 * _MIB, size(used) if used else "none")


@check(
    "host.disk",
    "free room on the disk of this folder and of /var/lib, where servers keep their data",
    target="> 15 %",
    remedy="Make room before PostgreSQL stops: old logs, archived partitions, unused slots.",
    guide=_BASELINE,
)
async def disk(_: Patient) -> Finding:
    shares = []
    for folder in {os.getcwd(), "/var/lib"}:
        if Path(folder).is_dir():  # noqa: ASYNC240  # a look-up in a cache of the kernel
            usage = shutil.disk_usage(folder)
            shares.append((usage.free / max(1, usage.total), f"{size(usage.free)} of {size(usage.total)}"))
    least, measured = min(shares)
    if least < 0.05:
        return critical(measured)
    return unless(least > 0.15, measured)


@check(
    "host.open-files",
    "`ulimit -n` here",
    target="≥ 4096",
    remedy="Raise it (LimitNOFILE=65536): every connection takes one.",
)
async def open_files(_: Patient) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return unless(soft >= 4096, f"{soft} (hard limit {hard})")


@check(
    "host.huge-pages",
    "transparent huge pages, where Redis runs on this machine",
    target="not always",
    remedy="echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: Redis's forks copy 2 MB for "
    "each write.",
    guide="Troubleshooting: slow cache operations",
)
async def huge_pages(patient: Patient) -> Finding:
    text = _proc("/sys/kernel/mm/transparent_hugepage/enabled")
    if text is None:
        return unknown("not told on this platform")
    chosen = text.partition("[")[2].partition("]")[0]
    here = patient.cache is not None and patient.redis.is_local
    return ok(f"{chosen}; Redis is elsewhere") if not here else unless(chosen != "always", chosen)


@check(
    "host.overcommit",
    "`vm.overcommit_memory`, where Redis runs on this machine",
    target="1",
    remedy="sysctl vm.overcommit_memory=1: else rewriting the append-only file may fail for want of memory.",
)
async def overcommit(patient: Patient) -> Finding:
    text = _proc("/proc/sys/vm/overcommit_memory")
    if text is None:
        return unknown("not told on this platform")
    here = patient.cache is not None and patient.redis.is_local
    return (
        ok(f"{text.strip()}; Redis is elsewhere") if not here else unless(text.strip() == "1", text.strip())
    )
