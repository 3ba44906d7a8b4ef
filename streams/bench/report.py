"""A result as tables for a person."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from streams.bench.finding import Findings
from streams.bench.results import BASELINES, Result, Run, figures_of
from streams.bench.spread import Spread


def show(console: Console, result: Result) -> None:
    """Print all of it; the details are those of the last run."""
    last = result.runs[-1]
    asked = ", ".join(f"{name} {value}" for name, value in result.options.items() if value is not None)
    console.print(f"[bold]{result.kind}[/bold]  {asked}", highlight=False)
    console.print(_figures(result))
    if result.baselines:
        console.print(_baselines(result))
    console.print(_batches(last))
    _details(console, last)
    checked = [run.checks for run in result.runs] + [found.checks for found in result.baselines.values()]
    for checks in checked:
        for what, holds in checks.items():
            if not holds:
                console.print(f"[red]✗ not so: {what}[/red]", highlight=False)
    if result.ok:
        console.print(f"[green]✓[/green] {'; '.join(last.checks)}", highlight=False)


def _figures(result: Result) -> Table:
    table = Table("", "median", "lowest", "highest", title=f"{len(result.runs)} run(s)", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in figures_of(result.runs[0]):
        spread = Spread.of([figures_of(run).get(name, 0.0) for run in result.runs])
        table.add_row(_words(name), *(f"{value:,.1f}" for value in (spread.median, spread.low, spread.high)))
    return table


def show_findings(console: Console, findings: Findings) -> None:
    """Print figures and checks."""
    asked = ", ".join(f"{name} {value}" for name, value in findings.options.items() if value is not None)
    console.print(f"[bold]{findings.kind}[/bold]  {asked}", highlight=False)
    table = Table(
        "", "median", "lowest", "highest", title=f"{len(findings.runs)} run(s)", title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread in findings.summary.items():
        table.add_row(name, *(f"{spread[which]:,.2f}" for which in ("median", "low", "high")))
    console.print(table)
    failed = [what for run in findings.runs for what, holds in run.checks.items() if not holds]
    for what in failed:
        console.print(f"[red]✗ not so: {what}[/red]", highlight=False)
    if not failed:
        holding = dict.fromkeys(what.rpartition(": ")[2] for what in findings.runs[-1].checks)
        console.print(f"[green]✓[/green] {'; '.join(holding)}", highlight=False)


def _baselines(result: Result) -> Table:
    table = Table(
        "baseline",
        "events/s",
        "this is ×",
        "CPU µs/event, postgres",
        title="in the same run",
        title_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, finding in result.baselines.items():
        rate = finding.figures["events_per_second"]
        cpu = finding.figures.get("cpu_us.postgres")
        spent = f"{cpu:,.1f}" if cpu is not None else ""
        table.add_row(BASELINES[name], f"{rate:,.0f}", f"{result.ratios[name]:.2f}", spent)
    return table


def _words(name: str) -> str:
    kind, _, who = name.partition(".")
    match kind:
        case "cpu_us":
            return f"CPU µs/event, {who}"
        case "memory_mb":
            return f"highest MB, {who}"
        case "wal_bytes":
            return "WAL bytes/event"
        case _:
            return kind.replace("_per_second", "/s").replace("_", " ")


def _batches(run: Run) -> Table:
    table = Table("queue", "batches", "mean size", "closed by", title="last run", title_justify="left")
    for queue, batches in run.batches.items():
        triggers = ", ".join(f"{name} {count}" for name, count in sorted(batches.triggers.items()))
        table.add_row(queue, str(batches.count), f"{batches.mean:.0f}", triggers)
    return table


def _details(console: Console, run: Run) -> None:
    console.print(
        f"{run.events:,} events in {run.messages:,} messages of {run.message_bytes:,.0f} bytes, filled in "
        f"{run.fill_seconds:.1f} s; stored in {run.seconds:.2f} s, caches told after "
        f"{run.fresh_seconds:.2f} s; {run.invalidations:,} invalidations; "
        f"spans received {run.spans['received']:,} ("
        f"of deliveries {run.spans['consumer']:,}), dropped {run.spans['dropped']:,}",
        highlight=False,
    )
    console.print(
        "processors: " + ", ".join(f"{share:.0%} {name}" for name, share in run.machine.items()),
        highlight=False,
    )
    rows = ", ".join(f"{name} {count:,}" for name, count in run.rows.items())
    console.print(f"row versions written: {rows}", highlight=False)
