"""Metrics as Prometheus would scrape them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from streams.telemetry import Metrics, exemplar
from tests.observability.catalogue import catalogue

QUEUE = "tasks.record_tasks"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def scraped(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and values of the labels (sorted by label), read back with Prometheus's own parser."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def test_a_batch_is_counted(metrics: Metrics) -> None:
    queue = metrics.queue(QUEUE)
    assert metrics.queue(QUEUE) is queue
    queue.received.inc(3)
    queue.batch("size", 500)
    queue.stored.inc(498)
    queue.repeats.inc(1)
    queue.quarantined("invalid_event")
    queue.retried("transient")
    queue.transaction.observe(0.02)
    samples = scraped(metrics)
    assert samples["streams_messages_received_total"] == {(QUEUE,): 3}
    assert samples["streams_events_total"] == {
        ("stored", QUEUE): 498,
        ("repeat", QUEUE): 1,
        ("quarantined", QUEUE): 1,
    }
    assert samples["streams_batches_total"] == {(QUEUE, "size"): 1}
    assert samples["streams_batch_size_sum"] == {(QUEUE,): 500}
    assert samples["streams_quarantined_total"] == {(QUEUE, "invalid_event"): 1}
    assert samples["streams_retries_total"] == {(QUEUE, "transient"): 1}
    assert samples["streams_stage_seconds_count"][QUEUE, "transaction"] == 1


def test_ages_are_a_histogram_like_any_other(metrics: Metrics) -> None:
    queue = metrics.queue(QUEUE)
    queue.committed([0.2, 0.004, -5.0, 7000.0, 0.005])
    queue.committed([0.03])
    queue.committed([])
    metrics.event_age_at_cache.observe([0.5])
    samples = scraped(metrics)
    buckets = samples["streams_event_age_at_commit_seconds_bucket"]
    assert buckets["0.005", QUEUE] == 3, "a bound belongs to its bucket, a clock ahead counts as 0"
    assert buckets["0.04", QUEUE] == 4
    assert buckets["3600.0", QUEUE] == 5
    assert buckets["+Inf", QUEUE] == samples["streams_event_age_at_commit_seconds_count"][QUEUE,] == 6
    assert samples["streams_event_age_at_commit_seconds_sum"][QUEUE,] == pytest.approx(7000.239)
    assert samples["streams_event_age_at_cache_seconds_count"] == {(): 1}


def test_labels_are_bounded(metrics: Metrics) -> None:
    for method in ("GET", "BREW", "WHEN"):
        metrics.http_request(method, "/tasks/{task_id}", 200, 0.004)
    samples = scraped(metrics)["streams_http_request_duration_seconds_count"]
    assert samples == {("GET", "/tasks/{task_id}", "200"): 1, ("_OTHER", "/tasks/{task_id}", "200"): 2}


def test_registries_are_separate(metrics: Metrics) -> None:
    Metrics().outbox_swept.inc()
    assert scraped(metrics)["streams_outbox_swept_total"] == {(): 0}


def test_lost_and_waiting_spans_are_shown(metrics: Metrics) -> None:
    metrics.spans_lost("queue_full", 7)
    metrics.span_queue(lambda: 42)
    samples = scraped(metrics)
    assert samples["streams_spans_dropped_total"] == {("queue_full",): 7}
    assert samples["streams_spans_waiting"] == {(): 42}


def test_all_of_our_names_have_one_prefix_and_a_documentation(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert re.fullmatch(r"(streams|process)_[a-z_]+", family.name)
        assert family.documentation


def test_the_documentation_has_every_metric_and_no_other(metrics: Metrics) -> None:
    metrics.outbox_swept.inc()
    text = Path(__file__).parents[2].joinpath("docs/metrics.md").read_text(encoding="utf-8")
    written = {
        (name, kind, tuple(filter(None, labels.replace(" ", "").split(","))))
        for name, kind, labels in re.findall(
            r"^\| `(streams_\w+)` \| (\w+) \|([\w, ]*)\|", text, re.MULTILINE
        )
    }
    assert written == {(name, kind, labels) for name, (kind, labels) in catalogue(metrics).items()}


def test_observations_are_examples_of_their_traces(metrics: Metrics) -> None:
    trace = "ab" * 16
    queue = metrics.queue(QUEUE)
    queue.committed([0.03, 0.2], trace)
    queue.transaction.observe(0.02, exemplar(trace))
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    examples = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert {key: found.labels for key, found in examples.items()} == {
        ("streams_event_age_at_commit_seconds_bucket", "0.25"): {"trace_id": trace},
        ("streams_stage_seconds_bucket", "0.025"): {"trace_id": trace},
    }


def test_statements_are_told_apart_up_to_a_limit(metrics: Metrics) -> None:
    def observe(table: str, seconds: float, error: BaseException | None = None) -> None:
        query = f"SELECT 1 FROM {table}"
        metrics.statements.on_query(SimpleNamespace(query=query, elapsed=seconds, exception=error))

    for number in range(150):
        observe(f"t{number}", 0.2)
    observe("t3", 0.001, asyncpg.DeadlockDetectedError())
    samples = scraped(metrics)
    assert samples["streams_db_slow_queries_total"][("SELECT t3",)] == 1
    assert samples["streams_db_slow_queries_total"][("other",)] == 50
    assert len(samples["streams_db_slow_queries_total"]) == 101
    assert samples["streams_db_errors_total"] == {("40P01",): 1}
