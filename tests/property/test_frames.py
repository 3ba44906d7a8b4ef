"""What the tap reads from bytes is what pamqp reads from them, whatever a producer sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from streams import frames
from streams.amqp import tolerate_any_property

short = st.text(max_size=40).filter(lambda text: len(text.encode()) < 256)
names = st.text(max_size=12)
values = st.recursive(
    st.one_of(
        st.text(max_size=30),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.booleans(),
        st.none(),
        st.binary(max_size=20).map(bytearray),
        st.floats(-1e30, 1e30, allow_nan=False),
        st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
exchanges = st.from_regex(r"[a-zA-Z0-9_.:-]{0,100}", fullmatch=True)
# An AMQP text property that is empty is not told from one that is missing.
texts = short.filter(bool)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "content_encoding": texts,
        "headers": st.dictionaries(names, values, min_size=1, max_size=4),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(1, 9),
        "correlation_id": texts,
        "reply_to": texts,
        "expiration": texts,
        "message_id": texts,
        "timestamp": st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        "message_type": texts,
        "user_id": texts,
        "app_id": texts,
    },
)


@pytest.fixture(autouse=True)
def _as_in_a_service() -> None:
    tolerate_any_property()


@given(properties, st.binary(max_size=50))
def test_properties_are_read_as_pamqp_reads_them(given_: dict[str, Any], content: bytes) -> None:
    payload = header.ContentHeader(0, len(content), commands.Basic.Properties(**given_)).marshal()
    expected = header.ContentHeader()
    expected.unmarshal(payload)
    found = frames.properties_of(payload)
    assert frames.body_size_at(payload, 0)[0] == len(content)
    assert found == (
        expected.properties.content_type or "",
        expected.properties.headers or {},
        expected.properties.message_id,
        expected.properties.timestamp,
        expected.properties.message_type,
        expected.properties.app_id,
    )


@given(st.binary(min_size=1, max_size=60), st.sampled_from([0x8000, 0x0080, 0x0020, 0x0008]))
def test_text_that_is_no_utf8_is_read_all_the_same(raw: bytes, flag: int) -> None:
    payload = header.ContentHeader(0, 0).marshal()[:12] + flag.to_bytes(2, "big") + bytes([len(raw)]) + raw
    expected = header.ContentHeader()
    expected.unmarshal(payload)
    found = frames.properties_of(payload)
    theirs = expected.properties
    assert [found.content_type, found.message_id, found.type, found.app_id] == [
        theirs.content_type or "",
        theirs.message_id,
        theirs.message_type,
        theirs.app_id,
    ]


@given(st.integers(0, (1 << 64) - 1))
def test_any_timestamp_is_read_or_means_nothing(value: int) -> None:
    payload = header.ContentHeader(0, 0).marshal()[:12] + b"\x00\x40" + value.to_bytes(8, "big")
    expected = header.ContentHeader()
    expected.unmarshal(payload)
    assert frames.properties_of(payload).timestamp == expected.properties.timestamp


@given(short, st.integers(0, (1 << 63) - 1), st.booleans(), exchanges, short, st.integers(1, 2047))
def test_a_deliver_is_read(
    consumer: str, tag: int, redelivered: bool, exchange: str, key: str, channel: int
) -> None:
    deliver = commands.Basic.Deliver(consumer, tag, redelivered)
    deliver.exchange, deliver.routing_key = exchange, key
    data = frame.marshal(deliver, channel)
    assert frames.frame_at(data, 0)[:2] == (frames.METHOD, channel)
    assert data[frames.PREFIX : frames.PREFIX + 4] == frames.DELIVER
    assert frames.deliver_at(data, frames.PREFIX + 4) == (consumer.encode(), tag, exchange, key, redelivered)


@given(st.integers(1, 2047), st.integers(1, (1 << 63) - 1))
def test_an_acknowledgement_is_written(channel: int, tag: int) -> None:
    assert frames.ack_frame(channel, tag) == frame.marshal(commands.Basic.Ack(tag, True), channel)


@given(st.binary(max_size=30), st.integers(1, 2047))
def test_a_frame_is_as_long_as_it_says(content: bytes, channel: int) -> None:
    data = frame.marshal(body.ContentBody(content), channel)
    kind, number, length = frames.frame_at(data, 0)
    assert (kind, number, length + frames.OVERHEAD) == (frames.BODY, channel, len(data))
