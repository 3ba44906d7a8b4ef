"""Counts of verdicts by kind and delay, and the report they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.checker.judge import Outcome, Verdict
from streams.checker.subjects import Kind, Subject

_EXAMPLES: Final = 20


@dataclass(slots=True)
class Counts:
    """Verdicts of one kind after one delay. `held`: of subjects that the API had been asked for before they
    were invalidated, so that a cache had something to lose."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    held: Counter[Outcome] = field(default_factory=Counter)

    def add(self, outcome: Outcome, *, held: bool) -> None:
        self.outcomes[outcome] += 1
        if held:
            self.held[outcome] += 1

    @property
    def judged(self) -> int:
        return self.outcomes[Outcome.CONSISTENT] + self.outcomes[Outcome.STALE]

    @property
    def share(self) -> float | None:
        """Consistent ones among those that something can be said of; None without any."""
        return self.outcomes[Outcome.CONSISTENT] / self.judged if self.judged else None

    def as_json(self) -> dict[str, Any]:
        return {
            **{str(outcome): self.outcomes[outcome] for outcome in Outcome},
            "share": self.share,
            "held": {str(outcome): self.held[outcome] for outcome in Outcome},
        }


@dataclass(slots=True)
class Report:
    """What was found.

    `caches`: answers by X-Cache; `announced_ms`: from reading the database until all it showed had been
    announced; `backwards`: answers of one API process that were older than one before.
    """

    delays: tuple[float, ...]
    seconds: float = 0.0
    heard: Counter[Kind] = field(default_factory=Counter)
    sampled: Counter[Kind] = field(default_factory=Counter)
    counts: dict[tuple[Kind, float], Counts] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    caches: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    backwards: int = 0
    backwards_examples: list[str] = field(default_factory=list)
    crossed: int = 0
    """Answers that were older than one of *another* API process before."""
    losses: int = 0
    cut_off: int = 0
    """Checks that were due after the end."""

    def add(self, subject: Subject, delay: float, verdict: Verdict, *, held: bool, where: str = "") -> None:
        self.counts.setdefault((subject.kind, delay), Counts()).add(verdict.outcome, held=held)
        if verdict.outcome is Outcome.INCONCLUSIVE:
            self.reasons[_reason(verdict.detail)] += 1
        elif verdict.outcome is Outcome.STALE and len(self.stale) < _EXAMPLES:
            self.stale.append(f"{where}{subject.path} after {delay:g} s: {verdict.detail}")

    def total(self, delay: float) -> Counts:
        return _sum(counts for (_, each), counts in self.counts.items() if each == delay)

    @property
    def decisive(self) -> float:
        """The delay that decides: one second, or the longest where that was not asked for."""
        return 1.0 if 1.0 in self.delays else max(self.delays)

    def ok(self, threshold: float) -> bool:
        """Whether the share after the decisive delay reaches the threshold for each kind, and nothing went
        back in time. Without a single verdict nothing is."""
        of_each = [counts for (_, delay), counts in self.counts.items() if delay == self.decisive]
        shares = [counts.share for counts in of_each if counts.judged]
        return bool(shares) and all(s is not None and s >= threshold for s in shares) and not self.backwards

    def as_json(self) -> dict[str, Any]:
        """Counts; shares between 0 and 1, None where nothing was judged; durations in seconds."""
        return {
            "seconds": round(self.seconds, 1),
            "after": {f"{delay:g}": self.total(delay).as_json() for delay in self.delays},
            "kinds": {
                str(kind): {
                    "heard": self.heard[kind],
                    "sampled": self.sampled[kind],
                    "after": {f"{d:g}": self.counts.get((kind, d), Counts()).as_json() for d in self.delays},
                }
                for kind in Kind
                if self.heard[kind]
            },
            "inconclusive": dict(self.reasons.most_common()),
            "stale": self.stale,
            "backwards": {
                "compared": self.compared,
                "one_process": self.backwards,
                "between_processes": self.crossed,
                "examples": self.backwards_examples,
            },
            "answers": dict(self.caches),
            "broker_lost": self.losses,
            "cut_off": self.cut_off,
        }

    def line(self) -> str:
        """The report in one line."""
        parts = [f"{percent(self.total(delay).share)} after {delay:g} s" for delay in self.delays]
        judged = sum(self.total(delay).judged for delay in self.delays)
        unclear = sum(self.total(delay).outcomes[Outcome.INCONCLUSIVE] for delay in self.delays)
        return (
            f"{', '.join(parts)} ({judged:,} answers judged, {unclear:,} inconclusive; "
            f"{self.sampled.total():,} of {self.heard.total():,} invalidations sampled)"
        )

    def show(self, console: Console) -> None:
        """Print it for a person."""
        console.print(_table(self.as_json(), self.delays))
        for name, values in (("inconclusive", self.reasons), ("answers by X-Cache", self.caches)):
            if values:
                listed = ", ".join(f"{count:,} {what}" for what, count in values.most_common())
                console.print(f"{name}: {escape(listed)}", highlight=False)
        console.print(
            f"back in time: {self.backwards} of {self.compared:,} compared, by one API process"
            + (f"; {self.crossed} between processes" if self.crossed else ""),
            highlight=False,
        )
        if self.losses:
            console.print(f"the broker went away {self.losses} times", highlight=False)
        for what in (*self.stale, *self.backwards_examples):
            console.print(f"  {what}", style="red", markup=False, highlight=False, soft_wrap=True)


def percent(share: float | None) -> str:
    """A share as people read it; never rounded up to 100 %."""
    if share is None:
        return "-"
    return "100 %" if share == 1 else f"{min(share * 100, 99.99):.4g} %"


def _table(numbers: Mapping[str, Any], delays: tuple[float, ...]) -> Table:
    names = [f"{delay:g}" for delay in delays]
    table = Table(title="Consistent among what the API answered", title_justify="left")
    table.add_column("")
    for name in ("heard", "sampled", *(f"after {name} s" for name in names), "stale", "inconclusive"):
        table.add_column(name, justify="right")
    for kind, found in numbers["kinds"].items():
        table.add_row(kind, f"{found['heard']:,}", f"{found['sampled']:,}", *_cells(found["after"], names))
    heard, sampled = (sum(found[key] for found in numbers["kinds"].values()) for key in ("heard", "sampled"))
    table.add_section()
    table.add_row("all", f"{heard:,}", f"{sampled:,}", *_cells(numbers["after"], names))
    return table


def _cells(after: Mapping[str, Any], names: list[str]) -> list[str]:
    stale, unclear = (sum(after[name][key] for name in names) for key in ("stale", "inconclusive"))
    shown = f"[red]{stale:,}[/red]" if stale else "0"
    return [*(percent(after[name]["share"]) for name in names), shown, f"{unclear:,}"]


def _sum(all_counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for counts in all_counts:
        total.outcomes += counts.outcomes
        total.held += counts.held
    return total


def _reason(detail: str) -> str:
    """Without the name of the row: reasons are few."""
    for known in ("changed more often than it was read", "came or went"):
        if detail.endswith(known):
            return known
    return detail
