"""Drains with one thing varied: how speed and memory go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.console import Console

from streams.bench.drain import drain
from streams.bench.finding import Finding, Findings
from streams.bench.options import By, Options
from streams.bench.place import Place

VALUES: Final = {
    By.WORKERS: (1, 2, 3),
    By.STORED: (0, 1_000_000, 10_000_000),
    By.PAYLOAD: (200, 2_000, 20_000),
    By.BACKLOG: (1_000_000,),
}
_FOR_WORKERS: Final = 5
"""Times the backlog: most of it is to be there still when the last worker is ready."""
_MOST_BYTES: Final = 300e6
"""Of a backlog of large payloads: fewer events then."""

_SIZE: Final = "SELECT pg_database_size(current_database())"


def options_for(by: By, value: int, options: Options) -> Options:
    match by:
        case By.WORKERS:
            return replace(options, workers=value, events=_FOR_WORKERS * options.events)
        case By.STORED:
            return replace(options, stored=value)
        case By.BACKLOG:
            return replace(options, events=value)
        case By.PAYLOAD:
            # Two of five events of a task carry prose.
            most = int(_MOST_BYTES / (value * 0.34 + 400))
            return replace(options, payload=value, events=min(options.events, most))


async def vary(
    place: Place, by: By, options: Options, values: Sequence[int], repeat: int, console: Console
) -> Findings:
    """One drain for each value, all of them `repeat` times over."""
    findings = Findings(f"scaling {by}", options.as_json())
    for _ in range(repeat):
        finding = Finding({}, {}, {"events_per_second": []})
        for value in values:
            run = await drain(place, options_for(by, value, options))
            console.print(f"{by} {value:,}: {run.events_per_second:,.0f} events/s", highlight=False)
            name = f"{value:,} {by}"
            workers = {who: sizes for who, sizes in run.memory.items() if who.startswith("worker")}
            finding.figures |= {
                f"{name}: events_per_second": run.events_per_second,
                f"{name}: cpu_us.all": sum(run.cpu_us.values()),
                f"{name}: wal_bytes": run.wal_bytes,
                f"{name}: memory_mb.worker": max(max(sizes, default=0) for sizes in workers.values()),
            }
            if by is By.STORED:
                size: int = await place.database.fetchval(_SIZE)
                finding.figures[f"{name}: database_mb"] = size / 1e6
            finding.checks |= {f"{name}: {check}": holds for check, holds in run.checks.items()}
            finding.curves["events_per_second"].append([float(value), run.events_per_second])
            for who, sizes in workers.items():
                finding.curves[f"memory_mb, {name}, {who}"] = [
                    list(point) for point in zip(run.memory_times, sizes, strict=True)
                ]
        findings.runs.append(finding)
    return findings
