"""Two results beside each other: ratios, and whether they are more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from schemas.errors import StreamsError
from streams.bench.spread import SCHEMA, Spread

Summary = Mapping[str, Spread]

_MORE_IS_BETTER: Final = ("events_per_second", "rows_per_second", "hit_ratio")


class NotComparable(StreamsError):
    """A file is no result of `streams bench --json`, or they are of different kinds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after."""

    name: str
    before: Spread
    after: Spread

    @property
    def ratio(self) -> float | None:
        """After to before; None where before is zero."""
        return self.after.median / self.before.median if self.before.median else None

    @property
    def is_noise(self) -> bool:
        """Whether the two ranges overlap. With one run each a range is a point, and nothing can be said."""
        return self.before.low <= self.after.high and self.after.low <= self.before.high

    @property
    def is_better(self) -> bool:
        rises = self.after.median > self.before.median
        return rises is self.name.rpartition(": ")[2].startswith(_MORE_IS_BETTER)


def differences(before: Summary, after: Summary) -> list[Difference]:
    """Of the figures that both have, in the order of the first."""
    return [Difference(name, spread, after[name]) for name, spread in before.items() if name in after]


def load(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        NotComparable: it is none, or of another version.
    """
    try:
        result = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise NotComparable(f"{path}: {error}") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA or "summary" not in result:
        raise NotComparable(f"{path} is no result of `streams bench --json` of this version")
    return result


def summary_of(result: Mapping[str, Any]) -> dict[str, Spread]:
    found = {name: Spread(**spread) for name, spread in result["summary"].items()}
    for name, ratio in result.get("ratios", {}).items():
        found[f"events_per_second, × {name}"] = Spread(ratio, ratio, ratio)
    return found


def show(console: Console, first: Path, second: Path) -> None:
    """Print the comparison.

    Raises:
        NotComparable: see `load`; or the two are of different kinds.
    """
    before, after = load(first), load(second)
    if before["kind"] != after["kind"]:
        raise NotComparable(f"{first} is of {before['kind']}, {second} of {after['kind']}")
    for name, result in (("before", before), ("after", after)):
        environment = result["environment"]
        runs = len(result["runs"])
        console.print(
            f"{name}: {environment['commit'] or '?'} at {environment['at']}, {runs} run(s)", highlight=False
        )
    changed = {
        name: (before["options"].get(name), after["options"].get(name))
        for name in before["options"]
        if before["options"].get(name) != after["options"].get(name)
    }
    if changed:
        console.print(f"[yellow]options differ: {changed}[/yellow]", highlight=False)
    console.print(_table(differences(summary_of(before), summary_of(after)), before["kind"]))
    if min(len(before["runs"]), len(after["runs"])) < 3:
        console.print("fewer than three runs: take small differences for noise (--repeat 5)", highlight=False)


def _table(found: list[Difference], kind: str) -> Table:
    table = Table(kind, "before", "range", "after", "range", "ratio", "")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for difference in found:
        before, after, ratio = difference.before, difference.after, difference.ratio
        verdict = "within noise" if difference.is_noise else "better" if difference.is_better else "worse"
        table.add_row(
            difference.name,
            f"{before.median:,.2f}",
            f"{before.low:,.2f}-{before.high:,.2f}",
            f"{after.median:,.2f}",
            f"{after.low:,.2f}-{after.high:,.2f}",
            "" if ratio is None else f"{ratio:.3f}",
            verdict,
        )
    return table
