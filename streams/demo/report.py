"""The end of a run, for a person and for a machine: the same numbers twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.checker.tally import Report as Consistency
from streams.demo.ledger import Key, Ledger
from streams.demo.observe import Observer
from streams.demo.publish import Counts
from streams.demo.readers import Reads
from streams.demo.verify import History, Verdict, first_differences

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles by nearest rank, in milliseconds; None without any sample."""

    p50: float
    p95: float
    p99: float
    max: float
    samples: int

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency | None:
        values = sorted(seconds)
        if not values:
            return None
        ranks = [values[math.ceil(len(values) * p / 100) - 1] for p in PERCENTILES]
        p50, p95, p99, most = (round(value * 1000, 2) for value in (*ranks, values[-1]))
        return cls(p50, p95, p99, most, len(values))


@dataclass(slots=True)
class Report:
    """All that a run has to say; see `as_json` for the names and units."""

    ledger: Ledger
    counts: Counts
    verdict: Verdict
    reads: Reads
    confirmed: Latency | None
    committed: Latency | None
    fresh: Latency | None
    batches: Counter[UUID]
    seconds: float
    seed: int
    folder: Path
    problems: list[str] = field(default_factory=list)
    """What went wrong besides differences: it was not at rest in time, a process ended."""
    notes: list[str] = field(default_factory=list)
    caches: Consistency | None = None
    """What the checker saw of the caches meanwhile."""

    @property
    def ok(self) -> bool:
        return self.verdict.agrees and not self.problems

    @property
    def throughput(self) -> float:
        """Confirmed events per second of publishing."""
        return self.counts.confirmed / max(1e-9, self.counts.ended_at - self.counts.started_at)

    def refused(self) -> dict[str, int]:
        """Bad events by the reason they were to be refused for."""
        return dict(sorted(Counter(str(sent.refusal) for sent in self.ledger.bad.values()).items()))

    def as_json(self) -> dict[str, Any]:
        """Counts in events, latencies in milliseconds, durations in seconds, rates per second."""
        sizes = sorted(self.batches.values())
        return {
            "ok": self.ok,
            "run": self.ledger.run,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "sent": self.counts.sent,
            "confirmed": self.counts.confirmed,
            "messages": self.counts.messages,
            "modes": dict(self.counts.modes),
            "stored": len(self.verdict.history),
            "repeats": self.ledger.repeats,
            "refused": self.refused(),
            "events_per_second": round(self.throughput, 1),
            "publish_to_confirmed_ms": _latency(self.confirmed),
            "publish_to_committed_ms": _latency(self.committed),
            "publish_to_fresh_ms": _latency(self.fresh),
            "batches": {
                "count": len(sizes),
                "mean": round(sum(sizes) / len(sizes), 1) if sizes else None,
                "median": sizes[len(sizes) // 2] if sizes else None,
                "max": sizes[-1] if sizes else None,
            },
            "reads": {
                "count": sum(self.reads.statuses.values()),
                "statuses": {str(status): n for status, n in sorted(self.reads.statuses.items())},
                "caches": dict(self.reads.caches),
                "hit_ratio": self.reads.hit_ratio,
                "failures": self.reads.failures,
                "ms": _latency(Latency.of(self.reads.seconds)),
            },
            "verification": verdict_json(self.verdict),
            "consistency": self.caches.as_json() if self.caches else None,
            "problems": self.problems,
            "notes": self.notes,
            "ledger": str(self.ledger.path),
            "logs": str(self.folder),
        }

    def show(self, console: Console) -> None:
        """Print it for a person."""
        numbers = self.as_json()
        _events(console, numbers)
        _latencies(console, {"publish to confirmed": self.confirmed, "publish to committed": self.committed,
                             "publish to cache fresh": self.fresh,
                             "read over HTTP": Latency.of(self.reads.seconds)})  # fmt: skip
        show_verdict(console, self.verdict)
        if self.caches is not None:
            console.print(f"caches consistent: {self.caches.line()}", highlight=False, soft_wrap=True)
            for what in self.caches.stale:
                console.print(f"  {what}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"[dim]{escape(note)}[/dim]")
        console.print(f"ledger {self.ledger.path}\nlogs   {self.folder}", highlight=False, soft_wrap=True)
        for problem in self.problems:
            console.print(f"[red]{escape(problem)}[/red]", highlight=False)
        word = "[bold green]PostgreSQL, Redis and the ledger agree." if self.ok else "[bold red]NOT in order."
        console.print(f"{word}[/] {self.seconds:.1f} s in all.", highlight=False)


def batches_of(history: History) -> Counter[UUID]:
    """Events stored by each transaction; repeats are not stored."""
    return Counter(row.batch_id for _, row in history)


def commit_latency(ledger: Ledger, committed: Mapping[Key, float]) -> Latency | None:
    """From the start of an event's first sending to its commit."""
    return Latency.of(
        at - ledger.good[key].published_at for key, at in committed.items() if key in ledger.good
    )


def fresh_latency(ledger: Ledger, history: History, observer: Observer) -> Latency | None:
    """From the start of an event's first sending until the cache bus told that Redis has forgotten what it
    made stale. Events whose batch asked for no invalidation are left out."""
    told = {batch: observer.fresh_at(batch) for batch in {row.batch_id for _, row in history}}
    return Latency.of(
        at - ledger.good[key].published_at
        for key, row in history
        if key in ledger.good and (at := told[row.batch_id]) is not None
    )


def show_verdict(console: Console, verdict: Verdict) -> None:
    """What was compared with what came out, and the first differences."""
    table = Table(title="Verification against the ledger", title_justify="left")
    table.add_column("compared")
    for name in ("rows", "from cache", "different"):
        table.add_column(name, justify="right")
    for check in verdict.checks:
        wrong = len(check.differences)
        table.add_row(
            check.what,
            f"{check.compared:,}",
            f"{check.hits:,}" if check.hits else "",
            f"[red]{wrong:,}[/red]" if wrong else "0",
        )
    console.print(table)
    for line in first_differences(verdict.differences):
        console.print(f"  {line}", style="red", markup=False, highlight=False, soft_wrap=True)
    for what in verdict.not_checked:
        console.print(f"not checked: {what}", style="yellow", markup=False, highlight=False)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "agrees": verdict.agrees,
        "compared": {check.what: check.compared for check in verdict.checks},
        "differences": len(verdict.differences),
        "first_differences": first_differences(verdict.differences),
        "not_checked": verdict.not_checked,
    }


def _events(console: Console, numbers: Mapping[str, Any]) -> None:
    table = Table(title="Events", title_justify="left", show_header=False)
    batches, reads = numbers["batches"], numbers["reads"]
    modes = ", ".join(f"{count:,} {mode}" for mode, count in sorted(numbers["modes"].items()))
    table.add_row("sent", f"{numbers['sent']:,} in {numbers['messages']:,} messages ({modes})")
    table.add_row("stored", f"{numbers['stored']:,}")
    table.add_row("repeats", f"{numbers['repeats']:,} sent again, stored once")
    why = ", ".join(f"{count} {reason}" for reason, count in numbers["refused"].items())
    table.add_row("refused", f"{sum(numbers['refused'].values())} ({why})")
    table.add_row("throughput", f"{numbers['events_per_second']:,.0f} events/s confirmed")
    if batches["count"]:
        table.add_row(
            "batches",
            f"{batches['count']:,}, {batches['mean']:g} events on average, {batches['max']} at most",
        )
    ratio = f", {reads['hit_ratio']:.1%} from the cache" if reads["hit_ratio"] is not None else ""
    table.add_row("reads", f"{reads['count']:,}{ratio}")
    console.print(table)


def _latencies(console: Console, latencies: Mapping[str, Latency | None]) -> None:
    table = Table(title="Latency in milliseconds", title_justify="left")
    table.add_column("")
    for name in ("p50", "p95", "p99", "max", "samples"):
        table.add_column(name, justify="right")
    for name, latency in latencies.items():
        if latency is None:
            table.add_row(name, *["-"] * 4, "0")
        else:
            values = (latency.p50, latency.p95, latency.p99, latency.max)
            table.add_row(name, *(f"{value:,.1f}" for value in values), f"{latency.samples:,}")
    console.print(table)


def _latency(latency: Latency | None) -> dict[str, float] | None:
    if latency is None:
        return None
    return {name: getattr(latency, name) for name in ("p50", "p95", "p99", "max", "samples")}
