"""Readings of metrics: samples, rates across restarts, percentiles from buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from streams.scrape import Change, parse
from streams.scrape.local import _address, role_of
from streams.scrape.sample import quantile
from streams.scrape.target import Target, targets
from streams.telemetry import Metrics


def page(started: float, stored: float, **more: float) -> str:
    lines = [
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {started}",
        "# TYPE streams_events counter",
        f'streams_events_total{{outcome="stored",queue="q"}} {stored}',
        *(f'streams_events_total{{outcome="{name}",queue="q"}} {value}' for name, value in more.items()),
    ]
    return "\n".join([*lines, ""])


def test_rates_are_differences_of_counters() -> None:
    change = Change(parse(page(1, 100), 10.0), parse(page(1, 300, repeat=40), 14.0))
    assert change.rate("streams_events_total", outcome="stored") == 50
    assert change.rates("streams_events_total", "outcome") == {"stored": 50, "repeat": 10}
    assert change.rate("streams_events_total") == 60
    assert change.rate("streams_nothing_total") is None


def test_a_restarted_process_shows_what_it_has_done_since() -> None:
    change = Change(parse(page(1, 1_000_000), 10.0), parse(page(2, 1_000_100), 20.0))
    assert change.restarted
    # As many as before and more: only the time of its start tells.
    assert change.rate("streams_events_total") == 100_010
    fallen = Change(parse(page(1, 1_000_000), 10.0), parse(page(1, 30), 20.0))
    assert not fallen.restarted
    assert fallen.rate("streams_events_total") == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=2, max_size=20))
def test_whatever_restarts_the_rate_is_neither_negative_nor_more_than_was_counted(
    steps: list[tuple[bool, int]],
) -> None:
    started, counter = 1, 0
    before = parse(page(started, counter), 0.0)
    for at, (restarts, events) in enumerate(steps, start=1):
        if restarts:
            started, counter = started + 1, 0
        counter += events
        after = parse(page(started, counter), float(at))
        assert Change(before, after).rate("streams_events_total") == events
        before = after


def test_percentiles_are_those_of_histogram_quantile() -> None:
    buckets = {"0.1": 50.0, "0.5": 90.0, "1.0": 100.0, "+Inf": 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.1)
    assert quantile(buckets, 0.9) == pytest.approx(0.5)
    assert quantile(buckets, 0.95) == pytest.approx(0.75)
    assert quantile({"0.1": 0.0, "+Inf": 10.0}, 0.99) == 0.1  # beyond the last bound: not known better
    assert quantile({"0.1": 0.0, "+Inf": 0.0}, 0.99) is None
    assert quantile({}, 0.99) is None


def test_what_our_own_metrics_say_is_read_back() -> None:
    metrics = Metrics()
    metrics.queue("tasks").stored.inc(3)
    metrics.queue("tasks").batch("size", 3)
    metrics.queue("tasks").committed([0.02] * 3)
    before = parse(metrics.render()[0].decode(), 0.0)
    metrics.queue("tasks").committed([0.2] * 97)
    after = parse(metrics.render()[0].decode(), 1.0)
    assert before.total("streams_events_total", queue="tasks", outcome="stored") == 3
    assert before.by("streams_batches_total", "trigger") == {"size": 1}
    p50 = Change(before, after).quantile("streams_event_age_at_commit_seconds", 0.5)
    assert p50 is not None
    assert 0.1 < p50 < 0.25
    assert Change(before, after).mean("streams_batch_size") is None


def test_processes_are_named_by_urls_in_any_form() -> None:
    found = targets({"worker": ["10.0.0.7:9100", "https://w2/base/metrics"], "api": ["http://[::1]:8080/"]})
    assert found == [
        Target("worker", "http://10.0.0.7:9100"),
        Target("worker", "https://w2/base"),
        Target("api", "http://[::1]:8080"),
    ]
    assert Target("api", "http://user:secret@host:80").name == "host:80"
    for wrong in ("ftp://x", "http://", "http://x:port"):
        with pytest.raises(ConfigurationError):
            targets({"worker": [wrong]})


def test_our_processes_are_known_by_their_command_lines() -> None:
    assert role_of(["/usr/bin/python", "-m", "streams", "worker"]) == "worker"
    assert role_of(["/venv/bin/python", "/venv/bin/streams", "api"]) == "api"
    assert role_of(["vi", "streams", "worker.py"]) is None
    assert role_of(["python", "-m", "streams", "run"]) is None
    assert _address("0100007F:1F90") == "127.0.0.1:8080"
    assert _address("00000000:1F90") == "127.0.0.1:8080"
    assert _address("00000000000000000000000001000000:0050") == "[0000:0000:0000:0000:0000:0000:0000:0001]:80"
