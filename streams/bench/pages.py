"""docs/performance.md: generated sections between markers, and the JSON and SVG files beside it.

A section lies between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; everything else is written by people.
Files are kept small: curves thinned, one run's details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from schemas.errors import StreamsError
from streams.bench import goals, plot
from streams.bench.goals import short
from streams.bench.results import BASELINES

_POINTS: Final = 60
_SECTION: Final = r"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)"
_TITLES: Final = {
    "workers": "Drain by workers",
    "stored": "Drain by rows stored beforehand",
    "payload": "Drain by bytes of prose in a payload",
}

Measured = Mapping[str, Any]
"""A result as JSON has it."""


class NoSection(StreamsError):
    """The page has no markers for what was measured."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its folder."""

    docs: Path

    @property
    def path(self) -> Path:
        return self.docs / "performance.md"

    @property
    def folder(self) -> Path:
        return self.docs / "performance"


def write(page: Page, name: str, measured: Measured) -> None:
    """Write what was measured to its files and into its section.

    Raises:
        NoSection: see there.
    """
    page.folder.mkdir(exist_ok=True)
    (page.folder / f"{name}.json").write_bytes(orjson.dumps(slim(measured)) + b"\n")
    images = []
    for title, svg in plots(name, measured).items():
        path = page.folder / f"{title}.svg"
        path.write_text(svg)
        images.append(f"![{title}](performance/{path.name})")
    text = replaced(page.path.read_text(), name, section(measured, images))
    results = {file.stem: orjson.loads(file.read_bytes()) for file in page.folder.glob("*.json")}
    page.path.write_text(replaced(text, "goals", "\n".join(goals.table(results))))


def section(measured: Measured, images: Sequence[str]) -> str:
    """What was measured, as Markdown."""
    parts = [_head(measured), "", *tables(measured)]
    return "\n".join([*parts, "", *images] if images else parts)


def replaced(text: str, name: str, body: str) -> str:
    """The page with one section made anew.

    Raises:
        NoSection: there is none of this name.
    """
    pattern = re.compile(_SECTION.format(name=re.escape(name)), re.DOTALL)
    new, count = pattern.subn(lambda found: f"{found[1]}{body}\n{found[2]}", text)
    if count != 1:
        raise NoSection(f"docs/performance.md has no section <!-- bench:{name} --> (or several)")
    return new


def slim(measured: Measured) -> dict[str, Any]:
    """The same with its curves thinned and all runs but the last reduced to their summary."""
    last = dict(measured["runs"][-1])
    for name, value in last.items():
        if name == "curves":
            last[name] = {curve: plot.thin(points, _POINTS) for curve, points in value.items()}
        elif name == "memory":
            last[name] = {who: plot.thin(sizes, _POINTS) for who, sizes in value.items()}
        elif name in ("commits", "memory_times"):
            last[name] = plot.thin(value, _POINTS)
    return {**measured, "repeat": len(measured["runs"]), "runs": [last]}


def _head(measured: Measured) -> str:
    environment = measured["environment"]
    checks = "all checks hold" if measured["ok"] else "**NOT ALL CHECKS HOLD**"
    about = f"{environment['cpus']} cores, Python {environment['python']}"
    if reference := environment.get("reference_ms"):
        about += f", reference {reference:.2f} ms"
    return (
        f"{len(measured['runs'])} run(s) of `{measured['kind']}` at commit {environment['commit'] or '?'}, "
        f"{environment['at'][:10]}, {about}; {checks}."
    )


def tables(measured: Measured) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| | median | lowest | highest |"
    yield "|---|---:|---:|---:|"
    for name, spread in measured["summary"].items():
        yield f"| {name} | {short(spread['median'])} | {short(spread['low'])} | {short(spread['high'])} |"
    if measured.get("baselines"):
        yield ""
        yield "| in the same run | events/s | the service is × | CPU µs of PostgreSQL |"
        yield "|---|---:|---:|---:|"
        for name, finding in measured["baselines"].items():
            rate, cpu = (
                finding["figures"].get(figure) for figure in ("events_per_second", "cpu_us.postgres")
            )
            ratio, spent = measured["ratios"][name], short(cpu) if cpu is not None else ""
            yield f"| {BASELINES[name]} | {short(rate)} | {ratio:.2f} | {spent} |"


def plots(name: str, measured: Measured) -> dict[str, str]:
    """SVG by the name of its file."""
    last = measured["runs"][-1]
    found: dict[str, str] = {}
    if measured.get("baselines"):
        rates = {"service": measured["summary"]["events_per_second"]["median"]}
        rates |= {which: f["figures"]["events_per_second"] for which, f in measured["baselines"].items()}
        found[f"{name}-baselines"] = plot.bars(f"{name}: events per second", "events/s", rates)
    if "commits" in last:
        found[f"{name}-progress"] = plot.lines(
            f"{name}: events committed", "seconds", "events", {"committed": last["commits"]}
        )
    curves = last.get("curves", {})
    if name in _TITLES:
        rates = {"one worker" if name != "workers" else "all workers": curves["events_per_second"]}
        found[f"{name}-speed"] = plot.lines(_TITLES[name], name, "events/s", rates)
    if name in ("backlog", "soak"):
        memory = {curve: points for curve, points in curves.items() if curve.startswith("memory_mb")}
        found[f"{name}-memory"] = plot.lines(f"{name}: resident memory", "seconds", "MB", memory)
    latencies = {curve: points for curve, points in curves.items() if curve.endswith("_ms")}
    if latencies and len(latencies) <= 3:
        found[f"{name}-latency"] = plot.lines(f"{name}: latency by percentile", "percent", "ms", latencies)
    return found
