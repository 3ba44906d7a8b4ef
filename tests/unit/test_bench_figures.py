"""The pure parts of the bench: percentiles, spreads, plots' scales, comparisons, marked sections."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.bench import compare, digest, hops, plot, profiled
from streams.bench.latency import Histogram, bucket_of, upper_edge
from streams.bench.loads import PROFILES
from streams.bench.reading import Population, Zipf
from streams.bench.spread import Spread
from streams.bench.stored import Commit


def test_one_worker_is_timed_from_the_first_delivery() -> None:
    assert digest.rate([Commit(11.0, 500), Commit(12.0, 500)], 10.0, [9.0]) == 500


def test_several_workers_are_timed_from_commit_to_commit_once_all_are_ready() -> None:
    """What is committed right after the last one was ready was worked on before, for the most part."""
    commits = [Commit(10.5, 900), Commit(12.1, 4000), Commit(13.1, 1000), Commit(14.1, 1000)]
    assert digest.rate(commits, 10.0, [9.0, 12.0]) == 1000
    assert digest.rate(commits, 10.0, [9.0, 13.5]) == pytest.approx(6900 / 4.1), "nearly all was done by then"
    assert digest.rate([], 10.0, [9.0, 12.0]) == 0


@given(st.integers(0, 10**11))
def test_a_bucket_holds_its_value_within_two_percent(micros: int) -> None:
    bucket = bucket_of(micros)
    assert micros <= upper_edge(bucket) <= micros * 65 / 64 + 1
    assert bucket == 0 or upper_edge(bucket - 1) < micros


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_values(values: list[float], percent: float) -> None:
    histogram = Histogram()
    histogram.add_all(values)
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    exact = ordered[round(rank) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.017, abs=2e-6)


def test_a_histogram_without_values_says_zero_and_never_more_than_the_longest() -> None:
    assert Histogram().percentile(99) == 0
    histogram = Histogram()
    histogram.add(1.0001)
    assert histogram.percentile(50) == 1.0001
    assert histogram.milliseconds("x")["x.max"] == 1000.1


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_an_axis_holds_its_values_and_zero_with_few_ticks(values: list[float]) -> None:
    axis = plot.Axis.over(values)
    tolerance = 1e-6 * max(1.0, axis.high - axis.low)
    assert axis.low - tolerance <= min(0, *values) and max(0, *values) <= axis.high + tolerance  # noqa: PT018
    assert 2 <= len(axis.ticks) <= 8
    assert axis.place(axis.low, 10, 20) == 10
    assert axis.place(axis.high, 10, 20) == pytest.approx(20)


@pytest.mark.parametrize(("span", "step"), [(100, 20), (9, 2), (1, 0.2), (12_345, 2500), (0.03, 0.01)])
def test_steps_are_round(span: float, step: float) -> None:
    assert plot.step_for(span, 5) == pytest.approx(step)


def test_plots_are_xml_of_bounded_size() -> None:
    points = [(float(n), float(n % 7)) for n in range(10_000)]
    for svg in (
        plot.lines("a < b", "x", "y & z", {"s": points, "empty": []}),
        plot.bars("b", "y", {"<n>": 3.0}),
    ):
        ET.fromstring(svg)
        assert len(svg) < 10_000


def test_thinning_keeps_both_ends() -> None:
    points = [(float(n), 0.0) for n in range(1000)]
    thinned = plot.thin(points, 10)
    assert (thinned[0], thinned[-1], len(thinned)) == (points[0], points[-1], 10)


def test_a_difference_is_noise_as_long_as_the_ranges_overlap() -> None:
    before = {
        "events_per_second": Spread(100, 90, 110),
        "cpu_us.all": Spread(50, 49, 51),
        "gone": Spread(1, 1, 1),
    }
    after = {
        "events_per_second": Spread(112, 108, 120),
        "cpu_us.all": Spread(40, 39, 41),
        "new": Spread(1, 1, 1),
    }
    rate, cpu = compare.differences(before, after)
    assert (rate.is_noise, rate.is_better, rate.ratio) == (True, True, pytest.approx(1.12))
    assert (cpu.is_noise, cpu.is_better, cpu.ratio) == (False, True, pytest.approx(0.8))
    assert compare.Difference("x", Spread(0, 0, 0), Spread(1, 1, 1)).ratio is None


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in ("", "[]", '{"schema": 0, "summary": {}}'):
        path.write_text(content)
        with pytest.raises(compare.NotComparable, match=r"x\.json"):
            compare.load(path)


def test_zipf_prefers_the_first_as_its_law_says() -> None:
    zipf = Zipf(Random(1))
    picked = Counter(zipf.place(100) for _ in range(20_000))
    assert picked[0] / picked[9] == pytest.approx(10, rel=0.2)
    assert set(picked) <= set(range(100))


def test_profiles_scale_users_and_time_over_their_steps() -> None:
    loads = PROFILES["stress"].loads(users=50, minutes=1)
    assert [load.reads for load in loads.values()] == [10, 20, 30, 40, 50]
    assert sum(load.seconds for load in loads.values()) == pytest.approx(60)
    assert PROFILES["smoke"].loads()["2 users"].seconds == 60


def test_a_sample_belongs_to_the_innermost_hop_on_its_stack() -> None:
    lines = [
        "streams/pipeline.py:run;streams/stores.py:apply;handlers/tasks.py:_row;uuid.py:int 500",
        "streams/app.py:run;streams/stores.py:_claim;asyncpg/connection.py:fetch 300",
        "streams/stores.py:_append_history;streams/database.py:copy_records_to_table;asyncpg/x.py:x 400",
        "streams/app.py:_start;streams/database.py:connect 9999",
        "asyncio/runners.py:run 100",
        "(other threads) 200",
    ]
    assert hops.by_hop(lines, 100) == {
        "handler: merge, rows, statements": 5.0,
        "history: encode rows, COPY": 4.0,
        "de-duplicate": 3.0,
        hops.EXPORT: 2.0,
        hops.LOOP: 1.0,
    }


def test_a_profile_names_no_path_of_the_machine() -> None:
    assert (
        profiled.short("/home/x/streams/.venv/lib/python3.11/site-packages/asyncpg/pool.py")
        == "asyncpg/pool.py"
    )
    assert profiled.short("/home/streams/checkout/streams/telemetry/otlp.py") == "streams/telemetry/otlp.py"
    assert profiled.short("/usr/lib/python3.11/uuid.py") == "uuid.py"


def test_newcomers_get_places_among_those_who_are_there_and_no_more_than_allowed() -> None:
    population = Population(Random(1), {"tasks": (1.0, ["old"])})
    population.admit("tasks", [str(n) for n in range(50)], most=20)
    paths = population.kinds["tasks"][1]
    assert len(paths) == 20
    assert len(set(paths)) == 20
    assert population.path() in paths
