"""The checker of the caches beside an open loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.bench.place import Place
from streams.checker.judge import Outcome
from streams.checker.tally import Report
from streams.checker.watch import Options, checking


@asynccontextmanager
async def checked(place: Place, api: str | None, rate: float) -> AsyncIterator[list[Report]]:
    """Have the caches checked while the body runs; the report is in the list afterwards.

    Args:
        rate: invalidations sampled per second; 0: nothing is checked.
    """
    found: list[Report] = []
    if not rate or api is None:
        yield found
        return
    options = Options(rate=rate)
    urls = place.urls
    async with checking(
        urls.amqp, urls.database, [api], options, patience=max(options.delays) + 1
    ) as checker:
        yield found
    found.append(checker.report())


def figures_of(report: Report) -> dict[str, float]:
    """Shares by delay and by kind, and how many verdicts they are made of."""
    figures: dict[str, float] = {}
    for delay in report.delays:
        counts = report.total(delay)
        if counts.share is not None:
            figures[f"consistent after {delay:g} s"] = counts.share
        for outcome in Outcome:
            figures[f"answers {outcome} after {delay:g} s"] = float(counts.outcomes[outcome])
    for (kind, delay), counts in sorted(report.counts.items()):
        if delay == report.decisive and counts.share is not None:
            figures[f"consistent after {delay:g} s: {kind}"] = counts.share
    return figures | {
        "invalidations.heard": float(report.heard.total()),
        "invalidations.sampled": float(report.sampled.total()),
        "pairs of answers compared": float(report.compared),
        "answers back in time": float(report.backwards),
    }


def checks_of(report: Report) -> dict[str, bool]:
    judged = report.total(report.decisive).judged > 0
    return {
        "nothing was stale a second after it was announced, or went back in time": report.ok(1.0)
        or not judged,
        "the checker could judge": judged,
    }
