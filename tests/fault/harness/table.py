"""Rows as text for the terminal, as Markdown for docs/reliability.md, as JSON for machines."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import orjson
import redis.asyncio

from streams.stack import StackUrls
from tests.fault.harness.counters import Row

BEGIN: Final = "<!-- written by `make fault`: begin -->"
END: Final = "<!-- written by `make fault`: end -->"

COLUMNS: Final = (
    ("attempted", "attempted"),
    ("acknowledged", "acknowledged"),
    ("stored", "stored"),
    ("lost", "lost"),
    ("unexpected", "unexpected"),
    ("history_doubles", "twice in history"),
    ("state_differences", "state differences"),
    ("innocents", "innocents dead-lettered"),
    ("cache_differences", "cache differences"),
    ("cache_compared", "of answers compared"),
    ("redelivered", "redelivered"),
)


def line(row: Row) -> str:
    """One row for the terminal, with what is wrong beneath it."""
    counters = " ".join(f"{name.replace('_', '-')}={getattr(row, name)}" for name, _ in COLUMNS)
    verdict = "ok " if row.ok else "BAD"
    lines = [f"{verdict} {row.scenario:<34} {counters} {row.seconds:.0f}s  {row.faults}"]
    if not row.ok:
        lines += [f"      {text}" for text in (*row.problems, *row.details[:12])]
    return "\n".join(lines)


def markdown(rows: Sequence[Row], facts: dict[str, str], scale: float) -> str:
    names = ["scenario", "what was done", *(title for _, title in COLUMNS), "seconds"]
    body = [
        [
            row.scenario if row.ok else f"**{row.scenario}**",
            row.faults,
            *(f"{getattr(row, name):,}" for name, _ in COLUMNS),
            f"{row.seconds:.0f}",
        ]
        for row in rows
    ]
    aligned = [":--", ":--", *("--:" for _ in names[2:])]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (names, aligned, *body))
    about = "; ".join(f"{name} {value}" for name, value in facts.items())
    bad = [row for row in rows if not row.ok]
    verdict = (
        "All counters are as they must be."
        if not bad
        else "**Not as they must be:** " + ", ".join(row.scenario for row in bad) + "."
    )
    share = "" if scale == 1 else f" At scale {scale:g} of the full suite."
    total = f"{len(rows)} trials, {sum(row.stored for row in rows):,} events stored."
    return f"{about}.{share}\n\n{verdict} {total}\n\n{table}"


def write_markdown(path: Path, text: str) -> None:
    """Replace what stands between the markers.

    Raises:
        ValueError: the file has no markers.
    """
    before, found, rest = path.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{path.name} has no markers")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def as_json(rows: Sequence[Row], facts: dict[str, str], scale: float) -> bytes:
    document: dict[str, Any] = {"facts": facts, "scale": scale, "rows": [row.as_json() for row in rows]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


async def facts_of(urls: StackUrls) -> dict[str, str]:
    """When, on what machine, with which versions."""
    connection = await asyncpg.connect(urls.database)
    try:
        postgres = str(await connection.fetchval("SHOW server_version")).split()[0]
    finally:
        await connection.close()
    async with redis.asyncio.from_url(urls.redis) as client:
        cache = str((await client.info("server"))["redis_version"])
    async with httpx.AsyncClient(base_url=urls.management, trust_env=False) as http:
        broker = str((await http.get("/api/overview")).json()["rabbitmq_version"])
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "Run on": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine:": f"{len(os.sched_getaffinity(0))} cores, {gigabytes:.0f} GB, Linux",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        "RabbitMQ": broker,
        "Redis": cache,
        "aio-pika": version("aio-pika"),
        "asyncpg": version("asyncpg"),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return re.sub(r"[^\w.-]", "", done.stdout) or "unknown"
