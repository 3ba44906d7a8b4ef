"""Whatever bytes arrive: decoding gives items that can be settled, bounded words that hold nothing of the
payload, and the original bytes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import decode, encode

from schemas.errors import Reason
from streams.acks import AckTracker
from streams.amqp import tolerate_any_property
from streams.decode import BATCH, BINARY, STRUCTURED, Decoder, Window
from streams.delivery import Delivery, Item
from streams.dlq.text import payload, printable
from streams.publisher import Publisher
from streams.quarantine import Quarantine, letter_id, original
from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS
from streams.slices import elements
from tests.corpus.case import CANARY, DATA, TIME, event

DECODER = Decoder(
    {name: cls for each in load_subscriptions(DEFAULT_HANDLERS) for name, cls in each.types.items()},
    Window(timedelta(days=365), timedelta(minutes=5)),
    max_bytes=100_000,
    max_events=20,
)
QUARANTINE = Quarantine(Publisher("amqp://nowhere", "test"), "tasks.record_tasks")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(CANARY)
names = st.text(max_size=8) | st.just(CANARY)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
types = st.sampled_from(sorted(DATA))
attributes = st.sampled_from(
    ["id", "source", "type", "time", "specversion", "traceparent", "tracestate", "x"]
)
modes = st.sampled_from([STRUCTURED, BATCH, BINARY, "", "text/plain"])
# What AMQP tables hold, as pamqp reads it.
tables = st.dictionaries(
    st.text(max_size=20).filter(lambda name: len(name.encode()) <= 128),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
        | st.text(max_size=30) | st.binary(max_size=9).map(bytearray),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=6,
)  # fmt: skip


async def _ack(tag: int) -> None: ...


def delivery_of(body: bytes, content_type: str, **properties: Any) -> Delivery:
    fields: dict[str, Any] = {
        "headers": {}, "message_id": None, "type": None, "timestamp": None, "app_id": None,
        "exchange": "tasks", "routing_key": "x", "tag": 1, "acks": AckTracker(_ack), "received_ns": 0,
    }  # fmt: skip
    return Delivery(body=body, content_type=content_type, **(fields | properties))


def check(delivery: Delivery) -> list[Item]:
    """What holds for each message, however it is made up."""
    tolerate_any_property()
    items = DECODER.decode(delivery, datetime.now(UTC))
    assert len(items) == delivery.open_events >= 1
    for item in items:
        assert (item.event is None) != (item.error is None)
        error = item.error
        if error is None:
            continue
        assert "for no known reason" not in str(error), "a bug of the decoder"
        assert len(str(error)) <= 500
        assert str(error).isprintable()
        assert CANARY not in error.field
        assert CANARY not in str(error) or error.reason is Reason.UNKNOWN_TYPE  # a type is told
        letter = QUARANTINE.letter(item, error.reason, str(error), field=error.field)
        assert letter.body == (delivery.body if item.raw is None else item.raw)
        assert letter.body in delivery.body
        encode.field_table(dict(letter.headers))
        assert len(letter.type.encode()) <= 255
        assert QUARANTINE.letter(item, error.reason, "again").message_id == letter.message_id
    for _ in items:
        delivery.settle()
    return items


@given(st.binary(max_size=300), modes)
def test_any_bytes(body: bytes, content_type: str) -> None:
    check(delivery_of(body, content_type))


@given(values, modes)
def test_any_json(value: Any, content_type: str) -> None:
    check(delivery_of(json.dumps(value).encode(), content_type))


@settings(max_examples=300)
@given(types, st.dictionaries(attributes, values, max_size=2), st.data())
def test_an_event_with_anything_in_any_place(
    type_: str, changes: dict[str, Any], data: st.DataObject
) -> None:
    fields = dict(DATA[type_])
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(values)
    whole = event("1", type_, fields) | changes
    check(delivery_of(json.dumps(whole).encode(), STRUCTURED))
    properties = {"message_id": "1", "type": type_, "app_id": "x", "headers": {"cloudEvents:time": TIME}}
    check(delivery_of(json.dumps(fields).encode(), BINARY, **properties))


@given(st.lists(st.sampled_from([None, *range(9)]), min_size=1, max_size=12), st.data())
def test_bad_elements_cost_only_themselves(places: list[int | None], data: st.DataObject) -> None:
    bad = [
        b"null",
        b"[]",
        b'"],["',
        b'{"a":"\\ud800"}',
        b"NaN",
        b'{"a":"\xff"}',
        b"[[[{}]]]",
        b"1e999",
        b"{} ",
    ]
    raw = [
        json.dumps(event(str(number))).encode() if place is None else bad[place]
        for number, place in enumerate(places)
    ]
    space = data.draw(st.sampled_from([b"", b" ", b"\n\t"]))
    body = space + b"[" + space + (space + b"," + space).join(raw) + space + b"]" + space
    items = check(delivery_of(body, BATCH))
    assert [item.event is not None for item in items] == [place is None for place in places]
    for item in items:
        if item.raw is not None:
            assert item.raw == raw[item.index].strip()


@given(st.lists(values, max_size=8), st.sampled_from([None, 1, 3]), st.booleans())
def test_the_elements_of_any_array_are_found(array: list[Any], indent: int | None, ascii_: bool) -> None:
    body = json.dumps(array, indent=indent, ensure_ascii=ascii_).encode(errors="surrogatepass")
    found = [body[start:end] for start, end in elements(body)]
    assert [repr(json.loads(part.decode(errors="surrogatepass"))) for part in found] == [
        repr(v) for v in array
    ]


@given(st.binary(max_size=60) | st.text('[]{},": \\a1', max_size=40).map(str.encode))
def test_what_is_an_array_to_a_parser_is_one_to_us(body: bytes) -> None:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if (
        isinstance(parsed, list)
        and not body.startswith((b"\xef", b"\xfe", b"\xff", b"\0"))
        and b"\0" not in body
    ):
        assert len(elements(body)) == len(parsed)
        return
    with suppress(ValueError):
        elements(body)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" + "[]," * 100_000, '["' + "\\" * 100_001, "[" + '"' * 100_001]
)
def test_taking_apart_is_linear(text: str) -> None:
    with pytest.raises(ValueError, match=r"missing|not closed|no value"):
        elements(text.encode())


@given(tables, st.text(max_size=40), st.text(max_size=40))
def test_a_letter_keeps_headers_and_has_one_id(headers: dict[str, Any], message_id: str, type_: str) -> None:
    tolerate_any_property()
    delivery = delivery_of(b"\xff", BINARY, headers=headers, message_id=message_id, type=type_)
    kept = original(delivery)
    read = decode.field_table(encode.field_table(kept))[1]
    assert _plain(read.get("headers", {})) == _plain(headers)
    first = letter_id("q", BINARY, b"\xff", kept)
    assert first == letter_id("q", BINARY, b"\xff", read)
    assert first != letter_id("other", BINARY, b"\xff", kept)
    assert first != letter_id("q", BINARY, b"\xfe", kept)


def test_headers_that_do_not_fit_are_named() -> None:
    deep: Any = 1
    for _ in range(33):  # the library recurses into what it writes: too deep would end the worker
        deep = [deep]
    headers = {"deep": deep, "large": "x" * 200_000, "n" * 129: 1, "nested": {"n" * 129: 1}, "fine": [[1]]}
    kept = original(delivery_of(b"", BINARY, headers=headers))
    assert kept["headers"] == {"fine": [[1]]}
    assert kept["headers_lost"] == ["deep", "large", "n" * 129, "nested"]


def _plain(value: Any) -> Any:
    """Headers as they compare: bytes are bytes, an empty name is a name."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return bytes(value) if isinstance(value, bytearray) else value


@given(st.text())
@example("\x1b[2J\x9b\x7f\u202e\u200b\ud800")
def test_nothing_that_moves_a_cursor_is_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert all(c.isprintable() or c in "\n\t" for c in printable(text, lines=True))


@given(st.binary(max_size=80))
def test_any_payload_can_be_shown(body: bytes) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in payload(body))
