"""The tap on any stream of frames, cut anywhere: every delivery once and whole, everything else untouched."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, frame, header
from pamqp.heartbeat import Heartbeat

from streams import frames
from streams.delivery import Delivery
from streams.tap import Tap


class Wire(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Reader(asyncio.StreamReader):
    """A reader that remembers what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.fed = b""

    def feed_data(self, data: bytes) -> None:
        self.fed += data


def delivery_frames(channel: int, consumer: str, tag: int, content: bytes, pieces: int) -> list[bytes]:
    """The frames of one delivery, its body in so many pieces."""
    deliver = commands.Basic.Deliver(consumer, tag, False)
    deliver.exchange, deliver.routing_key = "tasks", "task.created"
    size = max(1, -(-len(content) // pieces))
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    properties = commands.Basic.Properties(message_id=str(tag))
    return [
        frame.marshal(deliver, channel),
        frame.marshal(header.ContentHeader(0, len(content), properties), channel),
        *(frame.marshal(body.ContentBody(part), channel) for part in parts),
    ]


# Per channel, a run of units that must stay in order; the channels' frames interleave.
units = st.lists(
    st.one_of(
        st.tuples(st.just("tapped"), st.binary(max_size=60), st.integers(1, 4)),
        st.tuples(st.just("other"), st.binary(max_size=60), st.integers(1, 4)),
        st.tuples(st.just("rpc"), st.just(b""), st.just(1)),
    ),
    max_size=8,
)


def tap_with(accepted: list[Delivery]) -> tuple[Tap, Reader, Wire]:
    reader, wire = Reader(), Wire()
    tap = Tap(reader, {b"mine": accepted.append})
    tap.connection_made(wire)
    return tap, reader, wire


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 3), units, min_size=1), st.data())
def test_any_stream_cut_anywhere(
    channels: dict[int, list[tuple[str, bytes, int]]], data: st.DataObject
) -> None:
    asyncio.run(_any_stream(channels, data))


async def _any_stream(channels: dict[int, list[tuple[str, bytes, int]]], data: st.DataObject) -> None:
    accepted: list[Delivery] = []
    tap, reader, _ = tap_with(accepted)
    opened = b"".join(frame.marshal(commands.Channel.OpenOk(), number) for number in channels)
    tap.data_received(opened)
    runs: list[list[tuple[bool, bytes]]] = []
    expected: dict[int, list[tuple[int, bytes]]] = {number: [] for number in channels}
    for number, run in channels.items():
        frames_: list[tuple[bool, bytes]] = []
        for tag, (kind, content, pieces) in enumerate(run, 1):
            if kind == "rpc":
                frames_.append((False, frame.marshal(commands.Basic.QosOk(), number)))
                continue
            mine = kind == "tapped"
            consumer = "mine" if mine else "aiormq's"
            frames_ += [(mine, f) for f in delivery_frames(number, consumer, tag, content, pieces)]
            if mine:
                expected[number].append((tag, content))
        runs.append(frames_)
    stream, passed = b"", opened
    while runs := [run for run in runs if run]:
        mine, encoded = data.draw(st.sampled_from(runs)).pop(0)
        stream += encoded
        passed += b"" if mine else encoded
    stream += (beat := frame.marshal(Heartbeat(), 0))
    passed += beat
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        tap.data_received(stream[start:end])
    found: dict[int, list[tuple[int, bytes]]] = {number: [] for number in channels}
    trackers = {id(channel.acks): number for number, channel in tap._channels.items()}
    for delivery in accepted:
        found[trackers[id(delivery.acks)]].append((delivery.tag, delivery.body))
    assert found == expected
    # Heartbeats are added while deliveries flow, between frames; nothing else is.
    assert reader.fed.replace(frames.HEARTBEAT_FRAME, b"") == passed.replace(frames.HEARTBEAT_FRAME, b"")


@pytest.mark.parametrize("end", ["server closes", "we close", "connection lost", "opened again"])
async def test_nothing_is_acknowledged_on_a_channel_that_ended(end: str) -> None:
    accepted: list[Delivery] = []
    tap, _, wire = tap_with(accepted)
    opened = frame.marshal(commands.Channel.OpenOk(), 1)
    tap.data_received(opened + b"".join(delivery_frames(1, "mine", 1, b"{}", 1)))
    acks = accepted[0].acks
    if end == "server closes":
        tap.data_received(frame.marshal(commands.Channel.Close(406, "no", 0, 0), 1))
    elif end == "we close":
        tap.sent(frame.marshal(commands.Channel.Close(200, "bye", 0, 0), 1))
    elif end == "connection lost":
        tap.connection_lost(None)
    else:
        tap.data_received(opened + b"".join(delivery_frames(1, "mine", 1, b"{}", 1)))
        assert accepted[1].acks is not acks
    assert acks.closed
    accepted[0].settle()
    await acks.flush()
    assert wire.written == b""


async def test_an_acknowledgement_goes_out_on_its_channel() -> None:
    accepted: list[Delivery] = []
    tap, _, wire = tap_with(accepted)
    tap.data_received(frame.marshal(commands.Channel.OpenOk(), 5))
    for tag in (1, 2):
        tap.data_received(b"".join(delivery_frames(5, "mine", tag, b"{}", 1)))
    for delivery in accepted:
        delivery.settle()
    await accepted[0].acks.flush()
    assert wire.written == frame.marshal(commands.Basic.Ack(2, True), 5)


async def test_a_delivery_that_cannot_be_taken_in_is_given_back_with_its_connection() -> None:
    def fail(_: Delivery) -> None:
        raise RuntimeError("a bug")

    reader, wire = Reader(), Wire()
    tap = Tap(reader, {b"mine": fail})
    tap.connection_made(wire)
    tap.data_received(frame.marshal(commands.Channel.OpenOk(), 1))
    tap.data_received(b"".join(delivery_frames(1, "mine", 1, b"{}", 1)))
    assert wire.aborted


async def test_while_only_deliveries_come_aiormq_is_told_that_the_link_lives() -> None:
    accepted: list[Delivery] = []
    tap, reader, _ = tap_with(accepted)
    tap.data_received(frame.marshal(commands.Channel.OpenOk(), 1))
    reader.fed = b""
    for tag in range(1, 50):
        tap.data_received(b"".join(delivery_frames(1, "mine", tag, b"{}", 1)))
    assert reader.fed == frames.HEARTBEAT_FRAME, "one, not one per delivery"


async def test_a_held_link_stays_held_though_others_resume_it() -> None:
    accepted: list[Delivery] = []
    tap, _, wire = tap_with(accepted)
    tap.hold()
    assert wire.paused
    wire.resume_reading()  # as aiormq's reader does when it has caught up
    tap.data_received(frame.marshal(Heartbeat(), 0))
    assert wire.paused
    tap.resume()
    assert not wire.paused
