"""The producer's own frames, against pamqp's reading of them."""

from __future__ import annotations

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header

from schemas.errors import InvalidEvent
from streams.frames import METHOD
from streams.producer.frames import (
    BrokenFrame,
    FrameReader,
    Properties,
    confirm,
    header_table,
    message_frames,
    publish_method,
)

short = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)
FRAME_MAX = 4096


def unmarshalled(raw: bytes) -> list[object]:
    frames = []
    while raw:
        size, channel, frame = pamqp.frame.unmarshal(raw)
        assert channel == 1
        frames.append(frame)
        raw = raw[size:]
    return frames


@given(
    exchange=short,
    key=short,
    identifier=short,
    source=short,
    headers=st.dictionaries(short, st.text(max_size=300), max_size=3),
    content=st.binary(min_size=1, max_size=3 * FRAME_MAX),
    mandatory=st.booleans(),
)
def test_pamqp_reads_what_was_meant(
    exchange: str,
    key: str,
    identifier: str,
    source: str,
    headers: dict[str, str],
    content: bytes,
    mandatory: bool,
) -> None:
    properties = Properties("application/cloudevents+json", key, source)
    raw = message_frames(
        publish_method(exchange, key, mandatory=mandatory),
        properties.encode(identifier, 1_800_000_000, header_table(headers) if headers else b""),
        content,
        FRAME_MAX,
    )
    method, head, *bodies = unmarshalled(raw)
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == (exchange, key, mandatory)
    assert isinstance(head, header.ContentHeader)
    read = head.properties
    assert head.body_size == len(content)
    assert (read.content_type, read.delivery_mode) == ("application/cloudevents+json", 2)
    assert (read.message_id or "", read.message_type or "", read.app_id or "") == (identifier, key, source)
    assert read.timestamp is not None
    assert read.timestamp.timestamp() == 1_800_000_000
    assert (read.headers or {}) == headers
    assert b"".join(part.value for part in bodies if isinstance(part, body.ContentBody)) == content
    assert all(len(part.marshal()) <= FRAME_MAX - 8 for part in bodies if isinstance(part, body.ContentBody))


@given(tags=st.lists(st.tuples(st.integers(1, 1 << 40), st.booleans()), max_size=20), data=st.data())
def test_frames_arrive_whole_however_they_are_cut(tags: list[tuple[int, bool]], data: st.DataObject) -> None:
    raw = b"".join(pamqp.frame.marshal(commands.Basic.Ack(tag, multiple), 1) for tag, multiple in tags)
    reader, read = FrameReader(), []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        read += [confirm(payload) for kind, _, payload in reader.feed(raw[:size]) if kind == METHOD]
        raw = raw[size:]
    assert read == tags


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is this the broker's port"),
        (b"AMQP\x00\x01\x00\x00", "another version"),
        (b"\x01\x00\x01\x00\x00\x00\x01xy", "does not end"),
        (b"\x01\x00\x01\xff\xff\xff\xffxxxx", "is this the broker's port"),
    ],
)
def test_what_is_no_amqp_is_told(raw: bytes, what: str) -> None:
    with pytest.raises(BrokenFrame, match=what):
        list(FrameReader().feed(raw))


def test_names_that_amqp_cannot_carry_are_refused() -> None:
    with pytest.raises(InvalidEvent, match="type: must not be longer than 255 bytes"):
        publish_method("tasks", "ä" * 128, mandatory=True)
