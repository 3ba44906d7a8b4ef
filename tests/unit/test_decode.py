"""The three CloudEvents modes, and what is refused with which words."""

# ruff: noqa: E501 - a table of cases reads best with a line for each

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.envelope import event_types
from schemas.errors import Reason
from schemas.ids import derive_id, uuid7
from schemas.tasks import TaskEvent
from streams.acks import AckTracker
from streams.decode import BATCH, BINARY, STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TASK = derive_id(NOW, "task")


async def _ack(tag: int) -> None: ...


def delivery(body: bytes, content_type: str = STRUCTURED, **properties: Any) -> Delivery:
    fields: dict[str, Any] = {
        "headers": {},
        "message_id": None,
        "type": None,
        "timestamp": None,
        "app_id": None,
        "exchange": "tasks",
        "routing_key": "task.created",
        "tag": 1,
        "acks": AckTracker(_ack),
        "received_ns": 0,
    }
    return Delivery(body=body, content_type=content_type, **(fields | properties))


def event(**changes: Any) -> dict[str, Any]:
    attributes = {
        "specversion": "1.0",
        "id": "1",
        "source": "test",
        "type": "task.created",
        "time": NOW.isoformat(),
        "data": {"task_id": str(TASK), "kind": "research"} | changes.pop("data", {}),
    } | changes
    return {name: value for name, value in attributes.items() if value is not None}


@pytest.fixture
def decoder() -> Decoder:
    window = Window(timedelta(days=365), timedelta(minutes=5))
    return Decoder(event_types(TaskEvent), window, max_bytes=100_000, max_events=100)


def one(items: list[Item]) -> Item:
    assert len(items) == 1
    return items[0]


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_structured(decoder: Decoder) -> None:
    item = one(decoder.decode(delivery(encode(event())), NOW))
    assert item.error is None
    assert item.event is not None
    assert (item.event.type, item.event.entity_id, item.event.time) == ("task.created", TASK, NOW)


def test_binary_takes_attributes_from_properties_and_refines_them_by_headers(decoder: Decoder) -> None:
    properties = {"message_id": "7", "type": "task.created", "app_id": "pika", "timestamp": NOW}
    body = encode(event()["data"])
    item = one(decoder.decode(delivery(body, BINARY, **properties), NOW))
    assert item.event is not None
    assert (item.event.id, item.event.source, item.event.time) == ("7", "pika", NOW)
    precise = (NOW + timedelta(microseconds=7)).isoformat()
    for prefix in ("cloudEvents:", "cloudEvents_"):
        headers = {f"{prefix}time": precise, f"{prefix}source": "header"}
        item = one(decoder.decode(delivery(body, BINARY, **properties, headers=headers), NOW))
        assert item.event is not None
        assert (item.event.source, item.event.time.microsecond) == ("header", 7)


def test_an_array_costs_only_its_bad_elements(decoder: Decoder) -> None:
    body = encode(
        [
            event(id="a"),
            event(type="task.exploded"),
            event(id="c"),
            5,
            event(id="e", time="1990-01-01T00:00:00Z"),
        ]
    )
    message = delivery(body, BATCH)
    items = decoder.decode(message, NOW)
    assert message.open_events == 5
    assert [
        item.event.id if item.event else item.error.reason for item in items if item.event or item.error
    ] == [
        "a",
        Reason.UNKNOWN_TYPE,
        "c",
        Reason.INVALID_EVENT,
        Reason.OUTSIDE_WINDOW,
    ]
    assert json.loads(items[1].raw or b"")["type"] == "task.exploded"


BAD: list[tuple[bytes, str, Reason, str]] = [
    (b"{", STRUCTURED, Reason.UNDECODABLE, "not valid JSON"),
    (b"\xff\xfe", STRUCTURED, Reason.UNDECODABLE, "not valid JSON"),
    (b"[" * 5000, STRUCTURED, Reason.UNDECODABLE, "not valid JSON"),
    (b"", STRUCTURED, Reason.UNDECODABLE, "not valid JSON"),
    (b"null", STRUCTURED, Reason.INVALID_EVENT, "object"),
    (encode(event()), "text/plain", Reason.UNDECODABLE, "content type must be"),
    (b"[]", BATCH, Reason.UNDECODABLE, "one event at least"),
    (b"{}", BATCH, Reason.UNDECODABLE, "not a JSON array"),
    (encode([event()] * 101), BATCH, Reason.TOO_LARGE, "more than 100 events"),
    (b" " * 100_001, STRUCTURED, Reason.TOO_LARGE, "100001 bytes; the limit is 100000"),
    (encode(event(type="task.exploded")), STRUCTURED, Reason.UNKNOWN_TYPE, "type: 'task.exploded' is not handled here"),
    (encode(event(type=None)), STRUCTURED, Reason.INVALID_EVENT, "type: is missing"),
    (encode(event(specversion=None)), STRUCTURED, Reason.INVALID_EVENT, "specversion: is missing"),
    (encode(event(specversion="0.3")), STRUCTURED, Reason.INVALID_EVENT, "specversion:"),
    (encode(event(id="")), STRUCTURED, Reason.INVALID_EVENT, "id:"),
    (encode(event(id="é" * 200)), STRUCTURED, Reason.INVALID_EVENT, "id: must not be longer than 255 bytes"),
    (encode(event(time="2026-11-23T12:00:00")), STRUCTURED, Reason.INVALID_EVENT, "time: must have a zone"),
    (encode(event(time=1)), STRUCTURED, Reason.INVALID_EVENT, "time:"),
    (encode(event(time="1990-01-01T00:00:00Z")), STRUCTURED, Reason.OUTSIDE_WINDOW, "time: is dated before the 365 days"),
    (encode(event(time="9999-12-31T23:59:59Z")), STRUCTURED, Reason.OUTSIDE_WINDOW, "time: is dated more than 300 s"),
    (encode(event(data={"task_id": "x"})), STRUCTURED, Reason.INVALID_EVENT, "data.task_id:"),
    (encode(event(data={"task_id": str(UUID(int=5, version=4))})), STRUCTURED, Reason.INVALID_EVENT, "must be a UUIDv7"),
    (encode(event(data={"task_id": str(derive_id(NOW.replace(year=1990), "x"))})), STRUCTURED, Reason.OUTSIDE_WINDOW, "data.task_id: is dated before"),
    (encode(event(data={"task_id": str(derive_id(NOW.replace(year=2099), "x"))})), STRUCTURED, Reason.OUTSIDE_WINDOW, "data.task_id: is dated more"),
    (encode(event(data={"task_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"})), STRUCTURED, Reason.OUTSIDE_WINDOW, "ahead; check the producer"),
    (encode(event(data={"priority": "1"})), STRUCTURED, Reason.INVALID_EVENT, "data.priority: Input should be a valid integer"),
    (encode(event(data={"priority": 10})), STRUCTURED, Reason.INVALID_EVENT, "data.priority:"),
    (encode(event(data={"kind": "a\0b"})), STRUCTURED, Reason.INVALID_EVENT, "data.kind:"),
    (encode(event(data={"payload": {"a": ["\0"]}})), STRUCTURED, Reason.INVALID_EVENT, "U+0000"),
    (encode(event(data={"payload": {"a": 10**30}})), STRUCTURED, Reason.INVALID_EVENT, "64 bits"),
    (encode(event(data={"payload": {"a": float("nan")}})), STRUCTURED, Reason.INVALID_EVENT, "NaN"),
    (b'[{"data": NaN}]', BATCH, Reason.INVALID_EVENT, "type: is missing"),
    (b'[{"data": "\\ud800"}]', BATCH, Reason.UNDECODABLE, "not valid JSON"),
    (b"{}", BINARY, Reason.INVALID_EVENT, "id: is missing: binary mode"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "content_type", "reason", "words"), BAD)
def test_bad_input_is_refused_by_field_and_remedy(
    decoder: Decoder, body: bytes, content_type: str, reason: Reason, words: str
) -> None:
    item = one(decoder.decode(delivery(body, content_type), NOW))
    assert item.event is None
    assert item.error is not None
    assert item.error.reason is reason
    assert words in str(item.error)
    assert len(str(item.error)) < 600


def test_a_deep_payload_is_refused_before_the_database_sees_it(decoder: Decoder) -> None:
    nested: Any = 1
    for _ in range(40):
        nested = [nested]
    item = one(decoder.decode(delivery(encode(event(data={"payload": {"a": nested}}))), NOW))
    assert item.error is not None
    assert "nest deeper" in str(item.error)


def test_ids_are_version_7_and_carry_their_milliseconds() -> None:
    assert uuid7().version == 7
    assert derive_id(NOW, "legacy-1") == derive_id(NOW, "legacy-1") != derive_id(NOW, "legacy-2")
    assert derive_id(NOW, "legacy-1").int >> 80 == int(NOW.timestamp() * 1000)


def test_a_bug_in_decoding_still_gives_an_item_that_can_be_settled(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(decoder, "_structured", broken)
    item = one(decoder.decode(delivery(encode(event())), NOW))
    assert item.error is not None
    assert item.error.reason is Reason.UNDECODABLE
