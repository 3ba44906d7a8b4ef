"""From a delivery to the events that are to be stored, each with the span that it will have."""

from __future__ import annotations

from streams.decode import Decoder
from streams.delivery import Delivery, Item
from streams.facts import take_down
from streams.quarantine import REPLAY_OF
from streams.telemetry import Tracing


class Reader:
    """Reads the messages of one queue.

    Args:
        echoes: event types that we publish ourselves: they are done as soon as they are seen.
        facts: write down at once what will be stored of each event.
    """

    def __init__(
        self,
        queue: str,
        decoder: Decoder,
        tracing: Tracing,
        echoes: frozenset[str] = frozenset(),
        *,
        facts: bool = False,
    ) -> None:
        self._queue = queue
        self._decoder = decoder
        self._tracing = tracing
        self._echoes = echoes
        self._facts = facts

    def read(self, delivery: Delivery) -> list[Item]:
        """The events that are to be stored, or refused; none if all of them are settled already."""
        items = self._decoder.decode(delivery)
        self._trace(delivery, items)
        if self._facts:
            for item in items:
                if item.event is not None:
                    item.facts = take_down(item.event)
        return [item for item in items if not self._is_echo(item)] if self._echoes else items

    def _is_echo(self, item: Item) -> bool:
        """Whether it is an event that we published ourselves; it is settled then."""
        if item.event is None or item.event.type not in self._echoes:
            return False
        if item.trace is not None:
            self._tracing.settle(item.trace)
        item.delivery.settle()
        return True

    def _trace(self, delivery: Delivery, items: list[Item]) -> None:
        # From the headers, in whatever format; else, for a single event, from its attributes.
        traceparent, tracestate = self._tracing.propagation.extract(delivery.headers)
        if traceparent is None and len(items) == 1 and (only := items[0].event) is not None:
            traceparent, tracestate = only.traceparent, only.tracestate
        message = delivery.trace = self._tracing.message(
            self._queue,
            received_ns=delivery.received_ns,
            traceparent=traceparent,
            tracestate=tracestate,
            message_id=delivery.message_id,
            body_size=len(delivery.body),
            events=len(items),
            delivery_count=delivery.delivery_count,
            replay_of=delivery.headers.get(REPLAY_OF),
        )
        if len(items) == 1:
            items[0].trace = message
            return
        for item in items:
            event = item.event
            if event is None or event.traceparent is None:
                item.trace = message
            else:
                item.trace = self._tracing.event(
                    message, traceparent=event.traceparent, tracestate=event.tracestate, message_id=event.id
                )
