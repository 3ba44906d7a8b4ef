"""What can go wrong between `send` and the broker's confirm, named by what the caller does about it.

StreamsError (schemas.errors)
├── EventError            the event breaks the contract: correct it; nothing was sent
└── Unavailable
    └── NotConfirmed      these events are not confirmed; `maybe_sent` tells whether they may have arrived
        ├── Unroutable    no queue takes them: nobody has declared what they should land in
        ├── BrokerRefused the broker said no (missing exchange, no permission, full queue), and why
        └── ProducerClosed the producer was closed first, or is closed already

Sending the *same* event objects again is always safe: they keep their ids, and the service knows a repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.envelope import Event
from schemas.errors import Unavailable

_SHOWN = 5


class NotConfirmed(Unavailable):
    """The broker has not confirmed these events.

    Attributes:
        events: the very events, to be sent again under the same ids.
        maybe_sent: False: none of them reached the broker, for certain. True: some may have.
    """

    def __init__(self, message: str, events: Sequence[Event] = (), *, maybe_sent: bool = False) -> None:
        self.reason = message
        self.events = tuple(events)
        self.maybe_sent = maybe_sent
        super().__init__(f"{message}{_naming(self.event_ids)}")

    @property
    def event_ids(self) -> tuple[str, ...]:
        return tuple(event.id for event in self.events)


class Unroutable(NotConfirmed):
    """No queue takes the event. It was not stored anywhere."""


class BrokerRefused(NotConfirmed):
    """The broker answered, and its answer was no."""


class ProducerClosed(NotConfirmed):
    """The producer is closed, or was closed before the events were confirmed."""


class Full(Unavailable):
    """`send_nowait` found as much in flight as the producer may hold: wait for some, or use `enqueue`."""


def _naming(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    shown = ", ".join(ids[:_SHOWN])
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"; unconfirmed event {'id' if len(ids) == 1 else 'ids'}: {shown}{more}"
