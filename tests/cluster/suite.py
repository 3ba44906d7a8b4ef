"""`make cluster`: clusters on this machine, each losing a node under load; writes docs/clusters.md.

    make cluster                                       everything, about five minutes on two cores
    make cluster ARGS="--scenario postgres --scale 0.3"

Ends with 1 when a counter is not as it must be. docs/clusters.md is written by whole runs only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from streams.telemetry import configure_logging
from tests.cluster import standby
from tests.cluster.scenarios import SCENARIOS
from tests.fault.harness import table
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import nursery
from tests.fault.harness.place import private_place
from tests.fault.harness.trial import Stage

DOCUMENT = Path(__file__).parents[2] / "docs" / "clusters.md"


async def run(
    names: Sequence[str], scale: float, report: Callable[[Row], None], *, whole: bool
) -> tuple[dict[str, str], str]:
    """Run scenarios one after another.

    Returns:
        Facts about the run and, of a whole one, what a synchronous standby buys.
    """
    async with private_place() as place, nursery() as forks:
        print(f"logs of the service: {place.logs}")
        facts = await table.facts_of(place.urls)
        stage = Stage(place, forks, scale, report)
        for name in names:
            await SCENARIOS[name](stage)
        return facts, await standby.report(stage) if whole else ""


def write(name: str, text: str) -> None:
    """Replace what stands between two markers of the page."""
    begin, end = f"<!-- cluster:{name} -->", f"<!-- /cluster:{name} -->"
    before, found, rest = DOCUMENT.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{DOCUMENT.name} has no place for {name}")
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cluster", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", default="", help="names, or their beginnings, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of events; 1 is everything")
    parser.add_argument("--list", action="store_true", help="names of the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SCENARIOS))
        return 0
    names = [name for name in SCENARIOS if name.startswith(tuple(options.scenario.split(",")))]
    if not names:
        parser.error(f"no scenario begins with {options.scenario!r}; there are {', '.join(SCENARIOS)}")
    configure_logging("CRITICAL", json=False)  # what the suite's own clients say of servers it killed
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        print(table.line(row), flush=True)

    begun = time.monotonic()
    whole = len(names) == len(SCENARIOS)
    facts, bought = uvloop.run(run(names, options.scale, report, whole=whole))
    text = table.markdown(rows, facts, options.scale)
    print(f"\n{text}\n\n{bought}\n\n{time.monotonic() - begun:.0f} s")
    if whole and options.scale >= 1:
        write("table", text)
        write("asynchronous", bought)
    return 0 if len(rows) >= len(names) and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
