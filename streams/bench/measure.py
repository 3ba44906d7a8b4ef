"""Several runs on servers that are there, gathered into one result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from rich.console import Console

from streams.bench.drain import drain
from streams.bench.finding import Finding, Findings
from streams.bench.openloop import Load, run
from streams.bench.options import Options
from streams.bench.place import Place
from streams.bench.results import Result

Compare = Callable[[Place, Options], Awaitable[dict[str, Finding]]]
"""Measures baselines (streams.bench.baselines), right after the last run."""


async def measure_drain(
    where: Place, kind: str, options: Options, repeat: int, compare: Compare | None, console: Console
) -> Result:
    """Drains on servers that are there, and what they are compared with."""
    result = Result(kind, options.as_json())
    for number in range(repeat):
        found = await drain(where, options)
        result.runs.append(found)
        console.print(f"{kind} {number + 1}: {found.events_per_second:,.0f} events/s", highlight=False)
    if compare:
        console.print("baselines, on the same servers", highlight=False)
        result.baselines = await compare(where, options)
    return result


async def measure_loads(
    where: Place, kind: str, loads: Mapping[str, Load], repeat: int, console: Console
) -> Findings:
    """Open loops on servers that are there."""
    findings = Findings(kind, {name: load.as_json() for name, load in loads.items()})
    if len(loads) == 1:
        findings.options = next(iter(loads.values())).as_json()
    for number in range(repeat):
        parts = {}
        for name, load in loads.items():
            console.print(f"{kind} {number + 1}: {name}, {load.seconds:g} s", highlight=False)
            parts[name] = await run(where, load)
        findings.runs.append(next(iter(parts.values())) if len(parts) == 1 else _joined(parts))
    return findings


def _joined(parts: Mapping[str, Finding]) -> Finding:
    joined = Finding({})
    for name, part in parts.items():
        joined.figures |= {f"{name}: {figure}": value for figure, value in part.figures.items()}
        joined.curves |= {f"{name}: {curve}": points for curve, points in part.curves.items()}
        joined.checks |= {f"{name}: {check}": holds for check, holds in part.checks.items()}
    return joined
