"""From events to AMQP messages: out of order here and there, some twice, in all three CloudEvents modes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import Any, Final

import orjson

from schemas.errors import Reason
from streams.demo.faults import Fault
from streams.demo.simulator import SimEvent

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
BINARY: Final = "application/json"


class Mode(StrEnum):
    STRUCTURED = "structured"
    BATCH = "batch"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Planned:
    """One event at its place in the stream. `reason`: why it must be refused; `repeat`: sent before."""

    event: SimEvent
    position: float
    reason: Reason | None = None
    raw: bytes | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One AMQP message, ready to send; `position` is the place of its last event in the stream."""

    mode: Mode
    exchange: str
    routing_key: str
    content_type: str
    body: bytes
    events: tuple[Planned, ...]
    position: float
    headers: dict[str, str] = field(default_factory=dict)
    message_id: str | None = None
    type: str | None = None
    app_id: str | None = None
    timestamp: datetime | None = None


def disturb(events: Sequence[SimEvent], faults: Sequence[Fault], rng: Random) -> list[Planned]:
    """The stream as it goes out: one event in twelve displaced by up to 80 places, one in sixty-five
    sent again up to 1,500 places later, the faults spread evenly."""
    stream = []
    for index, event in enumerate(events):
        place = index + (rng.uniform(-80, 80) if rng.random() < 1 / 12 else 0.0)
        stream.append(Planned(event, place))
        if rng.random() < 1 / 65:
            stream.append(Planned(event, place + rng.uniform(1, min(1500, len(events) / 4)), repeat=True))
    for number, fault in enumerate(faults):
        place = (number + 0.5) * len(events) / max(1, len(faults))
        stream.append(Planned(fault.event, place, fault.reason, fault.raw))
    return sorted(stream, key=lambda planned: planned.position)


def pack(stream: Sequence[Planned], rng: Random) -> Iterator[Message]:
    """Messages in the order of sending. Most hold one event; one event in five travels in an array of
    its exchange's events, one in ten as a binary message."""
    waiting: dict[str, list[Planned]] = {}
    wanted: dict[str, int] = {}
    for planned in stream:
        exchange = planned.event.exchange
        if planned.raw is None and rng.random() < 0.2:
            waiting.setdefault(exchange, []).append(planned)
            if len(waiting[exchange]) >= wanted.setdefault(exchange, rng.randint(2, 40)):
                del wanted[exchange]
                yield _array(waiting.pop(exchange), planned.position, rng)
        elif planned.raw is None and rng.random() < 0.125 and "\x00" not in planned.event.id:
            yield _binary(planned, rng)
        else:
            yield _structured(planned, rng)
    for left in waiting.values():
        yield _array(left, left[-1].position, rng)


def traceparent(rng: Random) -> str:
    """A W3C trace context of a sampled trace."""
    return f"00-{rng.getrandbits(128) or 1:032x}-{rng.getrandbits(64) or 1:016x}-01"


def attributes(event: SimEvent) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "datacontenttype": "application/json",
        "data": event.data,
    }


def _structured(planned: Planned, rng: Random) -> Message:
    body = planned.raw if planned.raw is not None else orjson.dumps(attributes(planned.event))
    return Message(
        Mode.STRUCTURED,
        planned.event.exchange,
        planned.event.type,
        STRUCTURED,
        body,
        (planned,),
        planned.position,
        {"traceparent": traceparent(rng)},
    )


def _array(events: Sequence[Planned], position: float, rng: Random) -> Message:
    """Half of the events carry a trace context of their own, all share the message's."""
    entries = []
    for planned in events:
        entry = attributes(planned.event)
        if rng.random() < 0.5:
            entry["traceparent"] = traceparent(rng)
        entries.append(entry)
    first = events[0].event
    headers = {"traceparent": traceparent(rng)}
    body = orjson.dumps(entries)
    return Message(Mode.BATCH, first.exchange, first.type, BATCH, body, tuple(events), position, headers)


def _binary(planned: Planned, rng: Random) -> Message:
    """Attributes in AMQP's own properties, or all of them in headers, by either of the two prefixes.

    The header `time` is always there: AMQP's timestamp has whole seconds, and the order of two events
    within one second matters.
    """
    event = planned.event
    prefix = rng.choice(("cloudEvents:", "cloudEvents_"))
    headers = {"traceparent": traceparent(rng), f"{prefix}time": event.time}
    body = orjson.dumps(event.data)
    if rng.random() < 0.5:
        named = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
        headers |= {prefix + name: value for name, value in named.items()}
        return Message(
            Mode.BINARY, event.exchange, event.type, BINARY, body, (planned,), planned.position, headers
        )
    return Message(
        Mode.BINARY,
        event.exchange,
        event.type,
        BINARY,
        body,
        (planned,),
        planned.position,
        headers,
        message_id=event.id,
        type=event.type,
        app_id=event.source,
        timestamp=datetime.fromisoformat(event.time),
    )
