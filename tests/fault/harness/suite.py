"""`make fault`: runs the scenarios, prints each row as it ends and the table, writes docs/reliability.md.

    make fault                                       everything, about 20 minutes on two cores
    make fault ARGS="--scenario kill,disk-full --scale 0.1"
    make fault ARGS="--list"

Ends with 1 when a counter is not as it must be. docs/reliability.md is written by whole runs only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from streams.telemetry import configure_logging
from tests.fault.harness import table
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import nursery
from tests.fault.harness.place import private_place
from tests.fault.harness.trial import Stage
from tests.fault.scenarios import broker, cache, database, kills, links, memory, repeats, rolling

DOCUMENT = Path(__file__).parents[3] / "docs" / "reliability.md"

Scenario = Callable[[Stage], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    **kills.SCENARIOS,
    **broker.SCENARIOS,
    **database.SCENARIOS,
    **cache.SCENARIOS,
    **links.SCENARIOS,
    **repeats.SCENARIOS,
    **rolling.SCENARIOS,
    **memory.SCENARIOS,
}

CLOSER = {**links.CELLS, **kills.SHORT}
"""Run when they are named, and in no whole run."""


async def run(names: Sequence[str], scale: float, report: Callable[[Row], None]) -> dict[str, str]:
    """Run scenarios one after another on servers of their own; returns the facts about the run."""
    async with private_place() as place, nursery() as forks:
        print(f"logs of the service: {place.logs}")
        facts = await table.facts_of(place.urls)
        stage = Stage(place, forks, scale, report)
        for name in names:
            await (SCENARIOS | CLOSER)[name](stage)
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fault", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", default="", help="names, or their beginnings, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of events and faults; 1 is everything")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    parser.add_argument("--list", action="store_true", help="names of the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join((*SCENARIOS, *CLOSER)))
        return 0
    wanted = tuple(options.scenario.split(",")) if options.scenario else ("",)
    names = [name for name in SCENARIOS if name.startswith(wanted)]
    names += [name for name in wanted if name in CLOSER and name not in names]
    if not names:
        parser.error(f"no scenario begins with {options.scenario!r}; there are {', '.join(SCENARIOS)}")
    configure_logging("CRITICAL", json=False)  # what the suite's own clients say of servers it killed
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        print(table.line(row), flush=True)

    begun = time.monotonic()
    facts = uvloop.run(run(names, options.scale, report))
    text = table.markdown(rows, facts, options.scale)
    print(f"\n{text}\n\n{time.monotonic() - begun:.0f} s")
    if options.json:
        options.json.write_bytes(table.as_json(rows, facts, options.scale))
    if len(names) == len(SCENARIOS):
        table.write_markdown(DOCUMENT, text)
        DOCUMENT.with_suffix(".json").write_bytes(table.as_json(rows, facts, options.scale))
    return 0 if rows and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
