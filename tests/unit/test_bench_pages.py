"""The performance page: sections made anew between markers, files kept small, plots where curves are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.bench import everything, pages
from streams.bench.finding import Finding, Findings
from streams.bench.goals import GOALS, table
from streams.bench.options import By, Options
from streams.bench.results import BASELINES
from streams.bench.scaling import options_for

DOCS = Path(__file__).parents[2] / "docs"


MARKERS = "<!-- bench:goals -->\n<!-- /bench:goals -->\n<!-- bench:steady -->\n<!-- /bench:steady -->\n"


def measured(findings: Findings) -> Any:
    return orjson.loads(orjson.dumps(findings.as_json()))


def steady(*p99: float) -> Findings:
    curve = {"committed_ms": [[float(n), 2.0 * n] for n in range(1000)]}
    runs = [Finding({"committed_ms.p99": value}, {"stored": True}, curve) for value in p99]
    return Findings("steady", {"seconds": 1}, runs)


def test_a_section_is_replaced_and_nothing_else() -> None:
    page = "before\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nbetween\n<!-- bench:b -->\n<!-- /bench:b -->\n"
    once = pages.replaced(page, "a", r"new \1")
    assert once == page.replace("old", r"new \1")
    assert pages.replaced(once, "a", "old") == page


@pytest.mark.parametrize("page", ["", "<!-- bench:a -->\n<!-- /bench:a -->\n" * 2])
def test_a_section_that_is_missing_or_there_twice_is_an_error(page: str) -> None:
    with pytest.raises(pages.NoSection, match="bench:a"):
        pages.replaced(page, "a", "x")


def test_every_step_of_the_report_has_its_section() -> None:
    sections = re.findall(r"<!-- bench:(\S+) -->", (DOCS / "performance.md").read_text())
    steps = everything.Everything.steps(everything.Everything(None, everything.QUICK, None))  # type: ignore[arg-type]
    assert sorted(sections) == sorted([*steps, "goals"])
    assert {goal.step for goal in GOALS} <= set(steps)


def kept(*parts: tuple[str, float]) -> Any:
    summary = {name: {"median": value} for name, value in parts}
    return {"summary": summary, "environment": {"commit": "abc"}}


@pytest.mark.parametrize(
    ("p99", "verdict"), [(20.0, "aim reached"), (50.0, "bar reached"), (50.1, "**missed**")]
)
def test_a_latency_is_held_against_its_goals_from_above(p99: float, verdict: str) -> None:
    *_, row = table({"steady": kept(("committed_ms.p99", p99))})
    assert row == f"| 2,000/s: committed, p99 | {p99} ms | 50.0 ms | 25.0 ms | {verdict} | abc |"


def test_speed_and_what_is_kept_of_it_are_held_against_their_goals_from_below() -> None:
    stored = kept(("0 stored: events_per_second", 1000.0), ("9 stored: events_per_second", 790.0))
    rows = list(table({"drain": kept(("events_per_second", 9_999.0)), "stored": stored}))[2:]
    assert [row.split(" | ")[1:5] for row in rows] == [
        ["9,999 events/s", "10,000 events/s", "20,000 events/s", "**missed**"],
        ["0.79 ×", "0.8 ×", "0.95 ×", "**missed**"],
    ]


def test_writing_gives_table_plot_and_a_small_file(tmp_path: Path) -> None:
    page = pages.Page(tmp_path)
    page.path.write_text(MARKERS)
    pages.write(page, "steady", measured(steady(10, 12, 30)))
    text = page.path.read_text()
    assert "| committed_ms.p99 | 12.0 | 10.0 | 30.0 |" in text
    assert "3 run(s)" in text
    assert "(performance/steady-latency.svg)" in text
    assert (page.folder / "steady-latency.svg").read_text().startswith("<svg")
    kept = orjson.loads((page.folder / "steady.json").read_bytes())
    assert (kept["repeat"], len(kept["runs"])) == (3, 1)
    assert len(kept["runs"][0]["curves"]["committed_ms"]) <= 60


def test_a_run_whose_checks_fail_says_so_on_the_page() -> None:
    findings = steady(1)
    findings.runs[0].checks["stored"] = False
    assert not findings.ok
    assert "NOT ALL CHECKS HOLD" in pages.section(measured(findings), [])


def test_every_baseline_has_its_line_and_its_bar() -> None:
    rates = {"ceiling": 160_000.0, "ceiling in batches": 80_000.0, "bare": 30_000.0, "plain": 500.0}
    assert set(rates) == set(BASELINES)
    result: dict[str, Any] = {
        "summary": {"events_per_second": {"median": 20_000.0, "low": 1.0, "high": 2.0}},
        "baselines": {name: {"figures": {"events_per_second": rate}} for name, rate in rates.items()},
        "ratios": {name: 20_000 / rate for name, rate in rates.items()},
        "runs": [{}],
    }
    result["baselines"]["ceiling in batches"]["figures"]["cpu_us.postgres"] = 12.3
    lines = list(pages.tables(result))
    assert f"| {BASELINES['ceiling in batches']} | 80,000 | 0.25 | 12.3 |" in lines
    assert f"| {BASELINES['plain']} | 500.0 | 40.00 |  |" in lines
    (svg,) = pages.plots("batch", result).values()
    assert all(f">{name}</text>" in svg for name in ("service", *rates))


def test_large_payloads_make_a_backlog_of_fewer_events() -> None:
    options = Options(100_000)
    assert options_for(By.PAYLOAD, 200, options).events == 100_000
    assert options_for(By.PAYLOAD, 20_000, options).events < 50_000
    of_workers = options_for(By.WORKERS, 3, options)
    assert (of_workers.workers, of_workers.events) == (3, 5 * options.events), "enough when all are up"
    assert options_for(By.STORED, 7, options).stored == 7
    assert options_for(By.BACKLOG, 9, options).events == 9
