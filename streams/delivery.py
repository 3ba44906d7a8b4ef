"""One AMQP message on its way through a process, in words of our own.

The edge makes it from whatever the AMQP library delivers; nothing behind the edge knows that library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.envelope import Event
from schemas.errors import EventError
from streams.acks import AckTracker
from streams.facts import Facts
from streams.slices import elements
from streams.telemetry import MessageTrace


@dataclass(slots=True)
class Delivery:
    """A message, and how many of its events are still to be settled."""

    body: bytes = field(repr=False)
    content_type: str
    headers: Mapping[str, Any] = field(repr=False)
    message_id: str | None
    type: str | None
    timestamp: datetime | None
    app_id: str | None
    exchange: str
    routing_key: str
    tag: int
    acks: AckTracker
    received_ns: int
    delivery_count: int = 0
    open_events: int = 1
    trace: MessageTrace | None = None
    done: Callable[[Delivery], None] | None = None
    """Called once, when the last event has settled."""
    others: Callable[[], Mapping[str, Any]] = dict
    """Reads the properties that have no field here, by their AMQP names: only dead letters want them."""
    spans: list[tuple[int, int]] | None = None
    """Where the elements of an array are; None until somebody asked."""

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    def element(self, index: int) -> bytes:
        """One element of the array that the body is, as received.

        Raises:
            ValueError: the body is no array.
        """
        if self.spans is None:
            self.spans = elements(self.body)
        start, end = self.spans[index]
        return self.body[start:end]

    def settle(self) -> None:
        """One event of this message is stored or quarantined.

        Raises:
            RuntimeError: more settlements than events; the message might be acknowledged too early.
        """
        if self.open_events <= 0:
            raise RuntimeError("an event of this delivery was settled twice")
        self.open_events -= 1
        if self.open_events == 0:
            self.acks.settled(self.tag)
            if self.done is not None:
                self.done(self)


@dataclass(slots=True)
class Item:
    """One event of a delivery, or what was found instead of one."""

    delivery: Delivery
    event: Event | None = field(repr=False)
    error: EventError | None = None
    index: int = 0
    """Position in the message's array."""
    raw: bytes | None = field(default=None, repr=False)
    """The part of the body that the error is about; None: the whole body."""
    trace: MessageTrace | None = None
    """The `process` span to be; None only in tests."""
    facts: Facts | None = field(default=None, repr=False)
    """What is stored of the event, if it was written down already."""
