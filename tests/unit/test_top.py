"""What `streams top` makes of recorded metrics, and how it shows it."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from streams.scrape import Change, parse
from streams.scrape.target import Reading, Target
from streams.telemetry import Metrics
from streams.top.frame import Options, frame
from streams.top.history import History, sparkline
from streams.top.view import View, look
from streams.top.words import number, percent, size, time

WORKER, API = Target("worker", "http://10.0.0.7:9100"), Target("api", "http://10.0.0.8:8080")
BROKER = {"tasks.record": {"messages_ready": 1234}, "quarantine": {"messages": 2}}


def recorded() -> tuple[list[Reading], list[Change]]:
    """Two readings, two seconds apart, of a worker and an API that were at work; made by our own metrics."""
    worker, api = Metrics("worker"), Metrics("api")
    queue = worker.queue("tasks.record")
    worker.consumers_expected.labels("tasks.record").set(1)
    worker.consumers_reported.labels("tasks.record").set(1)
    worker.partitions_ahead_months.labels("tasks").set(3)
    worker.db_pool_size.set(4)
    worker.db_pool_idle.set(1)
    api.cache_requests.labels("l1", "hit").inc(1000)
    before = [parse(m.render()[0].decode(), 0.0) for m in (worker, api)]
    for _ in range(4):
        queue.batch("size", 500)
        queue.stored.inc(500)
        queue.transaction.observe(0.02)
        queue.committed([0.03] * 500)
    queue.repeats.inc(10)
    for name, seconds in (
        ("quick", 0.001),
        ("quick", 0.001),
        ("quick", 0.001),
        ("quick", 0.001),
        ("slow", 0.1),
        ("slow", 0.1),
    ):
        worker.statements.on_query(
            SimpleNamespace(query=f"SELECT * FROM {name}", elapsed=seconds, exception=None)
        )
    queue.retried("40P01")
    api.cache_requests.labels("l1", "miss").inc(100)
    api.cache_requests.labels("l1", "hit").inc(300)
    api.cache_requests.labels("redis", "hit").inc(60)
    api.cache_requests.labels("redis", "miss").inc(40)
    api.cache_requests.labels("database", "hit").inc(40)
    for _ in range(400):
        api.http_request("GET", "/v1/tasks", 200, 0.004)
    api.http_request("GET", "/metrics", 200, 3.0)
    after = [parse(m.render()[0].decode(), 2.0) for m in (worker, api)]
    readings = [Reading(t, s, ready=True, troubles={}) for t, s in zip((WORKER, API), after, strict=True)]
    return readings, [Change(*pair) for pair in zip(before, after, strict=True)]


def view() -> View:
    return look(*recorded(), BROKER)


def shown(of: View, width: int = 80, height: int = 24, **options: object) -> list[str]:
    text = frame(of, History(), Options(clock="12:00:00", **options), width=width, height=height)  # type: ignore[arg-type]
    return text.plain.splitlines()


def test_the_numbers_of_a_frame() -> None:
    found = view()
    (queue,) = found.queues
    assert (found.stored, found.repeats) == (1000, 5)
    assert (queue.backlog, queue.batch, queue.triggers) == (1234, 500, {"size": 1.0})
    assert queue.retries == 0.5
    assert queue.transaction == pytest.approx(0.025, rel=0.1)
    assert found.hits == {"l1": 0.75, "redis": 0.6}
    assert found.hit_ratio == 0.9  # 40 of 400 went to the database
    assert found.requests == 200  # not those for /metrics
    assert found.request_time[1] is not None
    assert found.request_time[1] <= 0.005
    assert [(s.name, s.calls) for s in found.statements] == [("SELECT slow", 1), ("SELECT quick", 2)]
    assert any("SELECT slow" in line for line in shown(found, 120, 40))
    assert (found.pool_used, found.letters, found.partitions_ahead) == (3, 2, 3)


def test_what_nobody_tells_is_a_dash_and_no_zero() -> None:
    silent = Reading(WORKER, parse("# nothing\n", 0.0), ready=True)
    lines = shown(look([silent], [], None))
    assert any("events" in line and "-" in line and " 0" not in line for line in lines)
    assert any("partitions ahead -" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 12), (200, 60)])
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    readings, changes = recorded()
    many = [Reading(Target("worker", f"http://10.0.0.{n}:9100"), trouble="nobody listens") for n in range(30)]
    for keys in (True, False):
        lines = shown(look([*readings, *many], changes, BROKER), width, height, keys=keys)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
    assert any("more" in line for line in lines) or height == 60


def test_what_is_wrong_has_a_sign_and_does_not_rest_on_colour() -> None:
    readings, changes = recorded()
    down = Reading(Target("updater", "http://u:1"), trouble="nobody listens")
    paused = Reading(WORKER, readings[0].sample, ready=False, troubles={"pipeline": "PostgreSQL is away"})
    lines = shown(look([paused, readings[1], down], changes, BROKER))
    assert any(line.lstrip().startswith("updater") and "✗ down: nobody" in line for line in lines)
    assert any("✗ not ready: pipeline" in line for line in lines)
    assert "✗ 2 of 3 processes up" in lines[0]
    assert any("! quarantine 2" in line for line in lines)


def test_nothing_that_a_server_says_reaches_the_terminal_as_it_is() -> None:
    name = "evil\x1b[31m\u202e"
    metrics = Metrics("worker")
    metrics.consumers_expected.labels(name).set(1)
    metrics.partitions_ahead_months.labels(name).set(-1)
    sample = parse(metrics.render()[0].decode(), 0.0)
    reading = Reading(Target("worker", "http://w:1"), sample, ready=False, troubles={name: name})
    text = "\n".join(shown(look([reading], [], {name: {"messages_ready": "no number"}}), 120, 40))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, highlight=False)
    console.print(frame(view(), History(), Options(), width=80, height=24), soft_wrap=True)
    assert "\x1b[31" not in out.getvalue()
    assert "\x1b[36" not in out.getvalue()
    assert "events" in out.getvalue()


def test_sparklines_show_gaps_and_scale_to_the_greatest() -> None:
    assert sparkline([0, 1, None, 7, 14]) == "▁▂ ▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0.5, 0.5], full=1.0) == "▅▅"
    assert sparkline([None]) == " "
    history = History()
    for _ in range(6):
        history.add(view())
    assert history.line("stored", 8, each=1) == "  ██████"
    assert history.line("stored", 8, each=3) == "      ██"


def test_numbers_in_a_few_characters() -> None:
    assert [number(n) for n in (None, 0, 0.54, 12.4, 1234, 56_700, 8_900_000)] == [
        "-", "0", "0.5", "12", "1,234", "56.7k", "8.9M",
    ]  # fmt: skip
    assert [time(s) for s in (None, 0.0009, 0.045, 1.24, 200)] == ["-", "0.9ms", "45ms", "1.2s", "3min"]
    assert [size(b) for b in (None, 5, 1_500, 110e6, 2.5e9)] == ["-", "5B", "1.5kB", "110MB", "2.5GB"]
    assert [percent(p) for p in (None, 0, 0.123, 0.98765, 1)] == ["-", "0%", "12.3%", "98.8%", "100%"]
