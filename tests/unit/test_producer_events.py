"""What a producer accepts, and what it says when it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging
from opentelemetry.semconv.attributes import error_attributes, server_attributes

from schemas.errors import ConfigurationError, EventError, InvalidEvent, TooLarge, Undecodable, UnknownType
from schemas.tasks import CreatedData, TaskCreated
from schemas.votes import CastData, VoteCast
from streams.producer import Batching, Producer, tracing, uuid7
from streams.producer.address import Address
from streams.producer.events import FAMILIES, Catalogue, encode

URL = "amqp://somebody:secret@127.0.0.1:1/"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(FAMILIES, "unit-tests")


def test_three_ways_to_name_an_event_give_the_same(catalogue: Catalogue) -> None:
    task, when = uuid7(), datetime.now(UTC)
    whole = TaskCreated(id="a", source="b", time=when, data=CreatedData(task_id=task, kind="k", priority=3))
    assert catalogue.make(whole) is whole
    by_data = catalogue.make(whole.data, id="a", source="b", time=when)
    by_type = catalogue.make(
        "task.created", {"task_id": str(task), "kind": "k", "priority": 3}, id="a", source="b", time=when
    )
    assert by_data == by_type == whole


def test_what_is_missing_is_filled_in(catalogue: Catalogue) -> None:
    first, second = (catalogue.make("task.created", {"task_id": uuid7(), "kind": "k"}) for _ in range(2))
    assert first.source == "unit-tests"
    assert first.id != second.id
    assert timedelta(0) < second.time - first.time < timedelta(seconds=10)
    body = json.loads(encode(first, 1000))
    assert set(body) == {"specversion", "id", "source", "type", "time", "data"}


def test_numbers_are_sent_as_they_were_given(catalogue: Catalogue) -> None:
    vote = catalogue.make(
        "vote.cast", {"round_id": uuid7(), "agent_id": uuid4(), "choice": "a", "weight": Decimal("0.1")}
    )
    assert isinstance(vote, VoteCast)
    assert vote.data.weight == Decimal("0.1")
    assert json.loads(encode(vote, 1000))["data"]["weight"] == 0.1


@pytest.mark.parametrize(
    ("what", "data", "kind", "field"),
    [
        ("task.made", {}, UnknownType, "type"),
        ("task.created", {"task_id": str(uuid4()), "kind": "k"}, InvalidEvent, "data.task_id"),
        ("task.created", {"task_id": str(uuid7())}, InvalidEvent, "data.kind"),
        ("task.created", {"task_id": uuid7(), "kind": "k", "priority": "3"}, InvalidEvent, "data.priority"),
        ("task.progressed", {"task_id": uuid7(), "progress": float("nan")}, InvalidEvent, "data.progress"),
        ("task.completed", {"task_id": uuid7(), "result": {"n": 1 << 70}}, InvalidEvent, "data.result"),
        ("task.completed", {"task_id": uuid7(), "result": {"n": object()}}, InvalidEvent, "data"),
        ("task.failed", {"task_id": uuid7(), "error": {"code": "x"}}, InvalidEvent, "data.error.message"),
    ],
)
def test_an_error_names_the_field(
    catalogue: Catalogue, what: str, data: dict[str, Any], kind: type[EventError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        catalogue.make(what, data)
    assert caught.value.field == field


def test_attributes_are_checked_too(catalogue: Catalogue) -> None:
    data = CreatedData(task_id=uuid7(), kind="k")
    with pytest.raises(InvalidEvent, match=r"^id: "):
        catalogue.make(data, id="")
    with pytest.raises(InvalidEvent, match=r"^time: "):
        catalogue.make(data, time=datetime.now())  # noqa: DTZ005 - without a zone on purpose
    with pytest.raises(TypeError, match="complete"):
        catalogue.make(catalogue.make(data), id="other")
    with pytest.raises(TypeError, match="the data of TaskAssigned is AssignedData"):
        catalogue.make("task.assigned", data)
    with pytest.raises(TooLarge, match="the limit is 50"):
        encode(catalogue.make(data), 50)


def test_a_line_is_completed_and_otherwise_left_alone(catalogue: Catalogue) -> None:
    line = {"type": "vote.cast", "data": {"round_id": str(uuid7()), "agent_id": str(uuid4()), "choice": "a"}}
    text = json.dumps(line).replace('"choice"', '"weight": 0.100000, "choice"')
    event = catalogue.parse(text)
    assert isinstance(event.data, CastData)
    assert (event.source, str(event.data.weight)) == ("unit-tests", "0.1")
    again = catalogue.parse(encode(event, 1000))
    assert again == event


@pytest.mark.parametrize(
    ("line", "kind", "what"),
    [
        ("{", Undecodable, "not valid JSON"),
        ("[1]", InvalidEvent, "object"),
        ("{}", InvalidEvent, "type: is missing"),
        ('{"type": "task.created"}', InvalidEvent, "data: is missing"),
        ('{"type": "nonsense", "data": {}}', UnknownType, "known: agent.registered"),
        ('{"type": 5, "data": {}}', EventError, "type: "),
        ('{"type": "task.started", "data": {"task_id": 1e400}}', InvalidEvent, "data.task_id: "),
        (
            '{"type": "task.completed", "data": {"task_id": "TASK", "result": {"n": 1%s}}}' % ("0" * 30),
            InvalidEvent,
            "data.result: .*64 bits",
        ),
    ],
)
def test_a_bad_line_is_refused(catalogue: Catalogue, line: str, kind: type[EventError], what: str) -> None:
    with pytest.raises(kind, match=what):
        catalogue.parse(line.replace("TASK", str(uuid7())))


def test_times_of_one_producer_go_forward_when_its_clock_steps_back(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    readings = [start, start, start - timedelta(milliseconds=5), start - timedelta(hours=1)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return readings.pop(0)

    monkeypatch.setattr("streams.producer.events.datetime", Clock)
    times = [catalogue.now() for _ in range(4)]
    assert times[:3] == sorted(set(times[:3]))
    assert times[3] == start - timedelta(hours=1), "but a clock that was wrong by much is believed"


def test_urls() -> None:
    address = Address.parse("amqps://u%40x:p%2Fw@broker.example/v%2F1?heartbeat=5")
    assert (address.host, address.port, address.virtual_host) == ("broker.example", 5671, "v/1")
    assert (address.user, address.password, address.heartbeat) == ("u@x", "p/w", 5)
    assert address.tls is not None
    assert address.tls.check_hostname
    assert "p/w" not in repr(address)
    assert Address.parse("amqp://localhost").virtual_host == "/"
    assert Address.parse("amqp://localhost/%2F").virtual_host == "/"
    for url, what in {
        "http://x": "must start with amqp",
        "amqp://x:port": "cannot be read",
        "amqps://x?no_verify_ssl=1": "must not switch off",
        "amqps://x?cafile=/nowhere": "cannot be read",
        "amqp://x?heartbeat=soon": "number of seconds",
    }.items():
        with pytest.raises(ConfigurationError, match=what):
            Address.parse(url)


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"source": ""}, {"source": "s", "wait": 0.0}, {"source": "s", "max_in_flight": 0}):
        with pytest.raises(ConfigurationError):
            Producer(URL, **wrong)  # type: ignore[arg-type]
    for size, linger in ((0, 1.0), (5001, 1.0), (10, -1.0)):
        with pytest.raises(ConfigurationError):
            Batching(size=size, linger=linger)


def test_attribute_names_are_those_of_the_conventions() -> None:
    ours = {value for name, value in vars(tracing).items() if name.startswith("_") and isinstance(value, str)}
    conventions = {
        value
        for module in (messaging, server_attributes, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert {name for name in ours if name.startswith(("messaging.", "server.", "error."))} <= conventions


def test_importing_it_brings_no_server_library_along() -> None:
    heavy = ["asyncpg", "redis", "faststream", "aio_pika", "aiormq", "structlog", "opentelemetry.sdk"]
    program = f"import sys, streams.producer; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
