"""The span tree of a batch, as an exporter sees it."""

from __future__ import annotations

import threading
import time
from collections import namedtuple
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import asyncpg.introspection
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, TraceState

from schemas.errors import ConfigurationError
from streams.telemetry import BatchTrace, MessageTrace, Telemetry, Tracing, parse_traceparent
from streams.telemetry.export import QueuePolicy, SpanQueue
from streams.telemetry.records import Record, Shape
from streams.telemetry.sql import summarize

QUEUE = "tasks.record_tasks"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"

LoggedQuery = namedtuple("LoggedQuery", "query args timeout elapsed exception conn_addr conn_params")  # noqa: PYI024


class Collected:
    """Telemetry, and the spans that it has exported once it is asked for them."""

    def __init__(self, link_limit: int = 2000) -> None:
        self._exporter = InMemorySpanExporter()
        self.telemetry = Telemetry.exporting_to(self._exporter, link_limit=link_limit)
        self.tracing = self.telemetry.tracing

    def spans(self) -> list[ReadableSpan]:
        assert self.telemetry.shutdown(10)
        return list(self._exporter.get_finished_spans())

    def by_name(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.spans()}

    def messages(self, count: int, traceparent: str | None = None) -> list[MessageTrace]:
        return [
            self.tracing.message(QUEUE, received_ns=time.time_ns(), traceparent=traceparent)
            for _ in range(count)
        ]

    def batch(self, messages: Sequence[MessageTrace], retry_of: BatchTrace | None = None) -> BatchTrace:
        return self.tracing.batch("tasks", QUEUE, messages, retry_of=retry_of)


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.telemetry.shutdown(10)


def end(trace: BatchTrace, size: int = 1) -> None:
    trace.end(trigger="size", size=size)


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def logged(query: str, exception: BaseException | None = None) -> LoggedQuery:
    address, params = ("db.local", 5433), SimpleNamespace(database="app")
    return LoggedQuery(query, ("secret",), None, 0.002, exception, address, params)


def test_a_replay_is_linked_to_the_first_time(collected: Collected) -> None:
    first = f"00-{'5' * 32}-{'6' * 16}-01"
    arguments = {"received_ns": time.time_ns(), "traceparent": PARENT}
    for claimed in (first, "00-zz", 5, None):
        message = collected.tracing.message(QUEUE, replay_of=claimed, **arguments)  # type: ignore[arg-type]
        end(collected.batch([message]))
    spans = collected.spans()
    batches = {ids(span) for span in spans if span.name == "process batch tasks"}
    linked_to = [linked(span) for span in spans if span.name == f"process {QUEUE}"]
    assert linked_to[0][0] == (int("5" * 32, 16), int("6" * 16, 16))
    assert [len(links) for links in linked_to] == [2, 1, 1, 1]
    assert {links[-1] for links in linked_to} == batches


def test_a_replay_keeps_the_link_to_an_outer_trace() -> None:
    tracing = Tracing(SpanQueueStub(), link_origins=True)
    replay_of = f"00-{'5' * 32}-{'6' * 16}-01"
    message = tracing.message(QUEUE, received_ns=1, traceparent=PARENT, replay_of=replay_of)
    assert [link.trace for link in message.links] == [TRACE, "5" * 32]


class SpanQueueStub:
    """Takes spans and forgets them."""

    def hand_over(self, records: Sequence[Record]) -> None: ...


def test_an_event_can_be_followed_to_its_batch_and_the_cache_update_and_back(collected: Collected) -> None:
    tracing = collected.tracing
    message = tracing.message(
        QUEUE,
        received_ns=time.time_ns(),
        traceparent=PARENT,
        message_id="e1",
        body_size=120,
        delivery_count=2,
    )
    trace = collected.batch([message])
    trace.on_query(logged("INSERT INTO event_claims SELECT * FROM unnest($1)"))
    trace.on_query(logged("COMMIT;"))
    with trace.send("invalidations", routing_key="cache.invalidated") as step:
        headers = step.inject({})
    with trace.settle(1):
        pass
    trace.end(trigger="linger", size=1, repeats=1)

    traceparent, _ = tracing.propagation.extract(headers)
    update = tracing.message("invalidations.apply", received_ns=time.time_ns(), traceparent=traceparent)
    updater = tracing.batch("invalidations", "invalidations.apply", [update])
    with updater.redis("EVALSHA"):
        pass
    end(updater)

    spans = collected.by_name()
    process, batch = spans[f"process {QUEUE}"], spans["process batch tasks"]
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is not None
    assert process.parent.is_remote
    assert ids(process)[0] == process.parent.trace_id == int(TRACE, 16)
    assert process.attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": QUEUE,
        "messaging.message.id": "e1",
        "messaging.message.body.size": 120,
        "streams.message.delivery_count": 2,
    }
    assert batch.parent is None
    assert linked(batch) == [ids(process)]
    assert linked(process) == [ids(batch)]
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 1
    assert batch.attributes["streams.batch.trigger"] == "linger"
    assert batch.attributes["streams.batch.repeats"] == 1
    for name, kind in {
        "INSERT event_claims": SpanKind.CLIENT,
        "COMMIT": SpanKind.CLIENT,
        "send invalidations": SpanKind.PRODUCER,
        f"settle {QUEUE}": SpanKind.CLIENT,
    }.items():
        child = spans[name]
        assert child.kind is kind
        assert child.parent is not None
        assert (child.parent.trace_id, child.parent.span_id) == ids(batch)
        assert 0 < (child.start_time or 0) <= (child.end_time or 0)
    continued = spans["process invalidations.apply"]
    assert continued.parent is not None
    assert (continued.parent.trace_id, continued.parent.span_id) == ids(spans["send invalidations"])
    assert linked(spans["process batch invalidations"]) == [ids(continued)]
    redis = spans["EVALSHA"].attributes
    assert redis == {"db.system.name": "redis", "db.operation.name": "EVALSHA"}


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        17,
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ["00"],
        "x" * 100_000,
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"{PARENT}-more",
        f"{PARENT}\n",
        PARENT[:-1],
    ],
)
def test_a_malformed_traceparent_makes_a_root_span(collected: Collected, traceparent: object) -> None:
    message = collected.tracing.message(QUEUE, received_ns=1, traceparent=traceparent, tracestate=b"x")
    assert message.trace_id != TRACE
    end(collected.batch([message]))
    assert collected.by_name()[f"process {QUEUE}"].parent is None


def test_later_versions_of_traceparent_are_understood() -> None:
    assert parse_traceparent(f"01-{TRACE}-00f067aa0ba902b7-09-what-comes", "a=1") == (
        TRACE,
        "00f067aa0ba902b7",
        1,
        "a=1",
    )


@pytest.mark.parametrize(
    ("tracestate", "kept"),
    [
        ("a=1, b=x y ,,tenant@vendor=2", "a=1,b=x y,tenant@vendor=2"),
        ("", None),
        ("no state", None),
        ("a=1,a=2", None),
        ("a=\u00e9", None),
        (",".join(f"k{number}=1" for number in range(33)), None),
        ("a=" + "x" * 600, None),
        (b"a=1", None),
    ],
)
def test_a_tracestate_is_kept_if_it_is_one(tracestate: object, kept: str | None) -> None:
    context = parse_traceparent(PARENT, tracestate)
    assert context is not None
    assert context.tracestate == kept
    if kept is not None:
        assert TraceState.from_header([kept]).to_header() == kept


def test_tracestate_travels_with_a_message(collected: Collected) -> None:
    message = collected.tracing.message(QUEUE, received_ns=1, traceparent=PARENT, tracestate="vendor=a1")
    assert message.context is not None
    headers: dict[str, object] = {}
    collected.tracing.propagation.inject(headers, message.context)
    assert headers == {"traceparent": message.traceparent, "tracestate": "vendor=a1"}
    end(collected.batch([message]))
    context = collected.by_name()[f"process {QUEUE}"].context
    assert context is not None
    assert context.trace_state.to_header() == "vendor=a1"


def test_an_array_has_one_span_and_one_more_per_event_with_a_trace_of_its_own(collected: Collected) -> None:
    tracing = collected.tracing
    message = tracing.message(QUEUE, received_ns=1, events=5)
    own = tracing.event(message, traceparent=PARENT, message_id="own")
    assert tracing.event(message, traceparent="nonsense") is message
    first, second = collected.batch([message, own, message]), collected.batch([message, message])
    end(first, 3)
    end(second, 2)

    spans = collected.spans()
    processes = [span for span in spans if span.name == f"process {QUEUE}"]
    assert len(processes) == 2
    event = next(span for span in processes if span.parent is not None)
    whole = next(span for span in processes if span.parent is None)
    batches = [ids(span) for span in spans if span.name == "process batch tasks"]
    assert linked(event) == [ids(whole), batches[0]]
    assert linked(whole) == batches, "the message is over with its last event, and knows both batches"
    assert whole.attributes is not None
    assert whole.attributes["streams.message.events"] == 5


def test_a_rolled_back_attempt_leaves_the_events_to_the_one_that_decides(collected: Collected) -> None:
    messages = collected.messages(2)
    failed = collected.batch(messages)
    failed.end(trigger="size", size=2, error=TimeoutError("the password is hunter2"), decided=False)
    end(collected.batch(messages, retry_of=failed), 2)

    spans = collected.spans()
    assert [span.name for span in spans] == [
        "process batch tasks",
        f"process {QUEUE}",
        f"process {QUEUE}",
        "process batch tasks",
    ]
    first, *events, second = spans
    assert first.status.status_code is StatusCode.ERROR
    assert first.attributes is not None
    assert first.attributes["error.type"] == "TimeoutError"
    assert "hunter2" not in first.to_json()
    assert linked(first) == [ids(event) for event in events]
    assert linked(second) == [ids(first), *(ids(event) for event in events)]
    assert [linked(event) for event in events] == [[ids(second)], [ids(second)]]


def test_a_quarantined_event_ends_in_an_error(collected: Collected) -> None:
    tracing = collected.tracing
    [alone] = collected.messages(1)
    array = tracing.message(QUEUE, received_ns=1, events=3)
    for message in (alone, array):
        message.fail("invalid_event")
        tracing.settle(message)
    end(collected.batch([array, array]), 2)

    spans = [span for span in collected.spans() if span.name == f"process {QUEUE}"]
    assert [(span.attributes or {})["error.type"] for span in spans] == ["invalid_event"] * 2
    assert [(span.attributes or {}).get("streams.message.failed_events") for span in spans] == [1, 1]


def test_spans_follow_the_parents_decision(collected: Collected) -> None:
    seen, unseen = collected.messages(1, PARENT)[0], collected.messages(1, UNSAMPLED)[0]
    assert unseen.context is not None
    assert not unseen.context.sampled
    mixed = collected.batch([seen, unseen])
    end(mixed, 2)
    hidden = collected.batch(collected.messages(3, UNSAMPLED))
    with hidden.send("invalidations") as step:
        assert step.context is not None
        assert not step.context.sampled, "others are told not to record either"
    hidden.on_query(logged("COMMIT;"))
    end(hidden, 3)

    spans = collected.spans()
    assert sorted(span.name for span in spans) == ["process batch tasks", f"process {QUEUE}"]
    assert len(spans[1].links) == 1


@pytest.mark.parametrize(
    ("sampler", "argument", "exported"),
    [
        ("always_off", "", 0),
        ("always_on", "", 2),
        ("traceidratio", "0", 0),
        ("parentbased_traceidratio", "1", 2),
    ],
)
def test_the_sampler_of_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, exported: int
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    collected = Collected()
    end(collected.batch(collected.messages(1)))
    assert len(collected.spans()) == exported


def test_links_are_limited_to_the_batch_size_and_the_rest_is_counted() -> None:
    collected = Collected(link_limit=3)
    end(collected.batch(collected.messages(5)), 5)
    batch = collected.by_name()["process batch tasks"]
    assert len(batch.links) == 3
    assert batch.dropped_links == 2


def test_limits_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "1")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "10")
    collected = Collected(link_limit=500)
    messages = [collected.tracing.message(QUEUE, received_ns=1, message_id="i" * 200) for _ in range(3)]
    end(collected.batch(messages), 3)
    spans = collected.by_name()
    assert len(spans["process batch tasks"].links) == 1
    assert (spans[f"process {QUEUE}"].attributes or {})["messaging.message.id"] == "i" * 10


def test_without_an_exporter_only_the_producers_context_passes_through() -> None:
    tracing = Tracing(None)
    rootless, child = (tracing.message(QUEUE, received_ns=1, traceparent=parent) for parent in (None, PARENT))
    assert (rootless.trace_id, rootless.traceparent) == (None, None)
    assert (child.trace_id, child.traceparent) == (TRACE, PARENT)
    trace = tracing.batch("tasks", QUEUE, [rootless, child])
    trace.on_query(logged("COMMIT;"))
    with (
        trace.redis("invalidate"),
        trace.send("invalidations") as step,
        tracing.send("tasks") as other,
    ):
        assert step.inject({}) == other.inject({}) == {}
    trace.end(trigger="size", size=2)
    assert trace.traceparent is None


def test_statements_show_neither_literals_nor_arguments(collected: Collected) -> None:
    trace = collected.batch(collected.messages(1))
    trace.on_query(logged("UPDATE agents SET name = 'Eve' WHERE id = $1", RefusedError()))
    with pytest.raises(TimeoutError), trace.redis("prune"):
        raise TimeoutError
    end(trace)
    trace.on_query(logged("COMMIT;"))  # asyncpg calls its loggers an iteration of the loop later

    spans = collected.by_name()
    assert spans["UPDATE agents"].attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "UPDATE",
        "db.query.summary": "UPDATE agents",
        "db.namespace": "app",
        "server.address": "db.local",
        "server.port": 5433,
        "db.response.status_code": "40001",
        "error.type": "40001",
    }
    assert spans["prune"].status.status_code is StatusCode.ERROR
    assert spans["COMMIT"].context is not None


class RefusedError(Exception):
    sqlstate = "40001"


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT 1", "SELECT"),
        ("-- name: x\nSELECT * FROM tasks t JOIN agents a ON a.id = t.agent_id", "SELECT tasks agents"),
        ("SELECT id FROM rounds WHERE id = ANY($1) ORDER BY id FOR UPDATE", "SELECT rounds"),
        (
            "INSERT INTO tasks AS t SELECT * FROM unnest($1::uuid[]) ON CONFLICT (id) DO UPDATE SET x = 1",
            "INSERT tasks",
        ),
        (
            """WITH old AS (SELECT id FROM votes WHERE a IS DISTINCT FROM b), n AS MATERIALIZED (SELECT 1)
            UPDATE votes SET x = 'DELETE FROM y' FROM old RETURNING 1""",
            "SELECT votes UPDATE votes",
        ),
        ("DELETE FROM outbox WHERE batch_id = $1", "DELETE outbox"),
        ("BEGIN ISOLATION LEVEL READ COMMITTED;", "BEGIN"),
        ('COPY "public"."event_history"(time) FROM STDIN', "COPY public.event_history STDIN"),
        ("", "OTHER"),
        ("SELECT key FROM claim_events($1::uuid[]) AS key", "SELECT claim_events"),
        (
            "SELECT r.id FROM rounds r CROSS JOIN LATERAL (SELECT 1 FROM votes) v",
            "SELECT rounds SELECT votes",
        ),
        ("SELECT count(*), (SELECT id FROM outbox LIMIT 1) FROM outbox", "SELECT outbox"),
        ("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nRESET ALL;", "SELECT pg_advisory_unlock_all"),
        (asyncpg.introspection.INTRO_LOOKUP_TYPES, "SELECT pg_type"),
    ],
)
def test_summaries_name_operations_and_tables(statement: str, summary: str) -> None:
    assert summarize(statement).text == summary


def test_spans_outside_of_a_batch(collected: Collected) -> None:
    with collected.tracing.send("tasks", parent=PARENT, count=20) as step:
        step.set("streams.rows", 20)
    with collected.tracing.span("sweep outbox", SpanKind.INTERNAL):
        pass
    spans = collected.by_name()
    assert spans["send tasks"].parent is not None
    assert (spans["send tasks"].attributes or {})["messaging.batch.message_count"] == 20
    assert spans["sweep outbox"].parent is None


@pytest.mark.parametrize(
    ("variables", "enabled"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
    ],
)
def test_the_environment_switches_tracing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], enabled: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    telemetry = Telemetry.from_environment("worker")
    assert telemetry.tracing.enabled is enabled
    assert telemetry.shutdown(5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "few"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        Telemetry.from_environment("worker")


class Gate:
    """An exporter that holds on until it is let go."""

    def __init__(self, *, fails: bool = False) -> None:
        self.opened = threading.Event()
        self.busy = threading.Event()
        self.sent = 0
        self._fails = fails

    def export(self, records: Sequence[Record]) -> bool:
        self.busy.set()
        self.opened.wait(10)
        if self._fails:
            raise RuntimeError("no route to the collector")
        self.sent += len(records)
        return True

    def shutdown(self) -> None:
        self.opened.set()


def records(count: int) -> list[Record]:
    return [Record(Shape("x", SpanKind.INTERNAL), TRACE, "1" * 16, None, 1, 1) for _ in range(count)]


def test_a_stalled_exporter_costs_spans_and_they_are_counted() -> None:
    gate, lost = Gate(), dict[str, int]()
    queue = SpanQueue(gate, QueuePolicy(capacity=10, batch=4, delay=60), lost.__setitem__)
    queue.hand_over(records(4))
    assert gate.busy.wait(10)
    queue.hand_over(records(8))
    queue.hand_over(records(5))
    assert lost == {"queue_full": 3}
    assert len(queue) == 10
    gate.opened.set()
    assert queue.shutdown(10)
    assert gate.sent == 14
    queue.hand_over(records(1))
    assert lost == {"queue_full": 1}, "after the end nothing is taken"


def test_shutdown_keeps_to_its_time() -> None:
    gate, lost = Gate(), dict[str, int]()
    queue = SpanQueue(gate, QueuePolicy(capacity=10, batch=2, delay=60), lost.__setitem__)
    queue.hand_over(records(6))
    assert gate.busy.wait(10)
    assert not queue.shutdown(0.05)
    assert lost == {"export_failed": 4}


def test_an_exporter_that_raises_loses_its_batch_alone() -> None:
    gate, lost = Gate(fails=True), list[tuple[str, int]]()
    gate.opened.set()
    queue = SpanQueue(gate, QueuePolicy(capacity=10, batch=2, delay=60), lambda *told: lost.append(told))
    queue.hand_over(records(4))
    assert queue.shutdown(10)
    assert lost == [("export_failed", 2)] * 2
