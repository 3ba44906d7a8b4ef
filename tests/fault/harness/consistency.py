"""`python -m tests.fault.harness.consistency`: the caches under faults, written into docs/consistency.md."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

import uvloop

from streams.checker.judge import Outcome
from streams.checker.tally import Report, percent
from streams.telemetry import configure_logging
from tests.fault.harness import table
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import nursery
from tests.fault.harness.place import private_place
from tests.fault.harness.trial import Stage
from tests.fault.scenarios.watched import FAULTS, PHASES, watch

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "consistency.md"
_SECTION: Final = re.compile(r"(<!-- faults -->\n).*?(<!-- /faults -->)", re.DOTALL)


def lines(found: dict[str, dict[str, Report]]) -> list[str]:
    """The table, in Markdown."""
    head = "| fault | heard | after 0.1 s | after 1 s | after 10 s | stale | judged | inconclusive, mostly |"
    rows = [head, "|---|---|---:|---:|---:|---:|---:|---|"]
    for name, reports in found.items():
        for phase in PHASES:
            report = reports[phase]
            totals = [report.total(delay) for delay in report.delays]
            stale = sum(total.outcomes[Outcome.STALE] for total in totals)
            unclear = sum(total.outcomes[Outcome.INCONCLUSIVE] for total in totals)
            why = ", ".join(f"{reason}" for reason, _ in report.reasons.most_common(2))
            cells = [
                name if phase == PHASES[0] else "",
                phase,
                *(percent(total.share) for total in totals),
                f"{stale:,}",
                f"{sum(total.judged for total in totals):,}",
                f"{unclear:,}" + (f" ({why})" if why else ""),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


async def run(names: list[str]) -> tuple[dict[str, dict[str, Report]], list[Row]]:
    rows: list[Row] = []
    found = {}
    async with private_place() as place, nursery() as forks:
        stage = Stage(place, forks, 1.0, rows.append)
        for name in names:
            reports = await watch(stage, name, FAULTS[name])
            if len(reports) < len(PHASES):  # the trial's row says why
                print(table.line(rows[-1]), flush=True)
                continue
            found[name] = reports
            print("\n".join(lines({name: found[name]})), table.line(rows[-1]), sep="\n", flush=True)
            for report in found[name].values():
                print(*(f"  {line}" for line in report.stale[:5]), sep="\n", flush=True)
    return found, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--only", default="", help="faults whose names begin so")
    parser.add_argument("--write", action="store_true", help="write the table into docs/consistency.md")
    options = parser.parse_args()
    configure_logging("CRITICAL", json=False)
    names = [name for name in FAULTS if name.startswith(options.only)]
    found, rows = uvloop.run(run(names))
    if options.write:
        text = "\n".join(lines(found))
        page, count = _SECTION.subn(lambda match: f"{match[1]}{text}\n{match[2]}", DOCUMENT.read_text())
        if count != 1:
            parser.error("docs/consistency.md has no section <!-- faults -->")
        DOCUMENT.write_text(page)
    return 0 if len(found) == len(names) and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
