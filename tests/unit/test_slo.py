"""The objectives: what a number means, and what the command says and returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from typer.testing import CliRunner

from schemas.errors import ConfigurationError
from streams.cli.commands import app
from streams.slo import Verdict, judge
from streams.slo.prometheus import QUERIES, seconds_of
from streams.telemetry import Metrics


def verdicts(**numbers: float | None) -> dict[str, tuple[Verdict, Verdict | None]]:
    return {row.objective.name: (row.verdict, row.design) for row in judge(numbers)}


def test_a_number_is_held_against_goal_and_design() -> None:
    found = verdicts(api_p99=0.02, hit_ratio=0.8, availability=0.999, database_p99=None, worker_memory=3e8)
    assert found["api_p99"] == (Verdict.MET, Verdict.MISSED)
    assert found["hit_ratio"] == (Verdict.MISSED, Verdict.MISSED)
    assert found["availability"] == (Verdict.MET, None)
    assert found["database_p99"] == (Verdict.UNKNOWN, None)
    assert found["worker_memory"][1] is Verdict.MISSED


@pytest.mark.parametrize(
    ("rate", "age", "verdict"),
    [(1500, 9, Verdict.MET), (90, 9, Verdict.MISSED), (90, 0.01, Verdict.IDLE), (0, None, Verdict.IDLE)],
)
def test_a_low_rate_is_missed_only_while_events_wait(
    rate: float, age: float | None, verdict: Verdict
) -> None:
    assert verdicts(throughput=rate, commit_age_p99=age)["throughput"][0] is verdict


def test_windows() -> None:
    assert (seconds_of("90s"), seconds_of("7d")) == (90, 604_800)
    for wrong in ("", "1", "h", "0h", "1y", "-1h"):
        with pytest.raises(ConfigurationError):
            seconds_of(wrong)


@pytest.fixture
def process() -> Iterator[tuple[Metrics, str]]:
    """The metrics of a process that answers, and its URL."""
    metrics = Metrics("api")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = metrics.render()[0] if self.path == "/metrics" else b'{"status":"ready"}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield metrics, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_the_command_reports_and_its_status_says_whether_all_is_met(process: tuple[Metrics, str]) -> None:
    metrics, url = process
    for _ in range(99):
        metrics.http_request("GET", "/v1/tasks", 200, 0.003)
    metrics.http_request("GET", "/livez", 503, 9.0)
    metrics.cache_requests.labels("l1", "miss").inc(100)
    metrics.cache_requests.labels("redis", "hit").inc(90)
    metrics.cache_requests.labels("redis", "miss").inc(10)
    metrics.cache_requests.labels("database", "hit").inc(10)
    result = CliRunner().invoke(app, ["slo", "--api", url, "--json"])
    report = json.loads(result.stdout)
    found = report["objectives"]
    assert result.exit_code == 0, result.stdout
    assert (found["availability"]["value"], found["hit_ratio"]["value"]) == (1, 0.9)
    assert 0.0025 < found["api_p99"]["value"] <= 0.005
    assert (found["api_p99"]["verdict"], found["commit_age_p99"]["verdict"]) == ("met", None)

    metrics.http_request("GET", "/v1/tasks", 503, 0.003)
    result = CliRunner().invoke(app, ["slo", "--api", url, "--worker", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "missed" in next(line for line in result.stdout.splitlines() if "5xx" in line)
    assert "no answer: worker 127.0.0.1:1" in result.stdout


def test_a_prometheus_is_asked_for_every_objective() -> None:
    assert QUERIES.keys() == {row.objective.name for row in judge({})}
