"""From a message to its events: the three CloudEvents modes, with every bound checked.

    structured  application/cloudevents+json        one event
    batch       application/cloudevents-batch+json  an array of events
    binary      application/json (or none)          body = data, attributes in AMQP properties and headers

A message that cannot be read, or an event that breaks the contract, becomes an `Item` with an error;
nothing here raises for what a producer sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Union, cast

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from schemas.envelope import Event
from schemas.errors import EventError, InvalidEvent, OutsideWindow, TooLarge, Undecodable
from schemas.fields import MAX_JSON_DEPTH, microseconds
from streams.delivery import Delivery, Item
from streams.explain import explain, unknown_type, what_the_bytes_are
from streams.slices import elements

log = structlog.get_logger(__name__)

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
BINARY = "application/json"

_ATTRIBUTES = ("id", "source", "type", "time", "specversion", "traceparent", "tracestate")


class Window:
    """Which dates are allowed: [now - retention, now + skew]."""

    def __init__(self, retention: timedelta, skew: timedelta) -> None:
        self._retention = retention
        self._skew = skew
        self._move(datetime.now(UTC))

    def _move(self, now: datetime) -> None:
        self._now = now
        self._first, self._last = now - self._retention, now + self._skew
        self._first_ms, self._last_ms = microseconds(self._first) // 1000, microseconds(self._last) // 1000

    def check(self, event: Event, now: datetime) -> None:
        """Refuse an event that is dated, by its time or by an id, where no partition may be.

        Raises:
            OutsideWindow: names the field and the nearest date that would do.
        """
        if now is not self._now:
            self._move(now)
        if not self._first <= event.time <= self._last:
            raise self._outside("time", event.time > self._last)
        for name in event.dated_ids:
            value = getattr(event.data, name)
            # The milliseconds inside a UUIDv7, which may lie where no datetime reaches.
            if value is not None and not self._first_ms <= (at := value.int >> 80) <= self._last_ms:
                raise self._outside(f"data.{name}", at > self._last_ms)

    def _outside(self, field: str, ahead: bool) -> OutsideWindow:
        if ahead:
            skew = f"{self._skew.total_seconds():g} s"
            return OutsideWindow(f"is dated more than {skew} ahead; check the producer's clock", field=field)
        return OutsideWindow(f"is dated before the {self._retention.days} days that are kept", field=field)


class Decoder:
    """Decodes the messages of one queue into the events of its family.

    Args:
        types: the family's classes by `type`.
        max_bytes: larger messages are refused unread.
        max_events: so are arrays with more events.
        max_depth: levels that a JSON object inside an event may nest.
    """

    def __init__(
        self,
        types: Mapping[str, type[Event]],
        window: Window,
        *,
        max_bytes: int,
        max_events: int,
        max_depth: int = MAX_JSON_DEPTH,
    ) -> None:
        self._types = types
        self._window = window
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._limits = {"max_json_depth": max_depth}
        self._tick, self._now = 0, datetime.now(UTC)
        family: Any = Union[tuple(types.values())]  # noqa: UP007 - the members are known at run time only
        if len(types) > 1:
            family = Annotated[family, Field(discriminator="type")]
        self._event: TypeAdapter[Event] = TypeAdapter(family)
        self._events: TypeAdapter[list[Event]] = TypeAdapter(list[family])
        self._data: dict[str, TypeAdapter[Any]] = {
            name: TypeAdapter(cast("Any", cls.model_fields["data"].annotation)) for name, cls in types.items()
        }

    def decode(self, delivery: Delivery, now: datetime | None = None) -> list[Item]:
        """The events of a message, each an Item; at least one. Sets the delivery's count of events."""
        try:
            items = self._decode(delivery, now or self._clock(delivery.received_ns))
        except EventError as error:
            if isinstance(error, Undecodable):
                guess = what_the_bytes_are(delivery.body, delivery.others().get("content_encoding"))
                error = Undecodable(f"{error}{guess}")
            return [Item(delivery, None, error)]
        except Exception:
            # A bug of ours; but a delivery that nobody settles would hold up every acknowledgement behind it.
            log.exception("a message could not be decoded", exchange=delivery.exchange)
            return [Item(delivery, None, Undecodable("the message cannot be read, for no known reason"))]
        delivery.open_events = len(items)
        return items

    def _clock(self, received_ns: int) -> datetime:
        """When a message arrived, to the tenth of a second: what is computed from it serves many messages."""
        tick = received_ns // 100_000_000
        if tick != self._tick:
            self._tick, self._now = tick, datetime.fromtimestamp(tick / 10, UTC)
        return self._now

    def _decode(self, delivery: Delivery, now: datetime) -> list[Item]:
        if len(delivery.body) > self._max_bytes:
            raise TooLarge(
                f"the message has {len(delivery.body)} bytes; the limit is {self._max_bytes} "
                "(STREAMS_MAX_MESSAGE_BYTES)"
            )
        content_type = delivery.media_type
        if content_type == BATCH:
            return self._array(delivery, now)
        if content_type == STRUCTURED:
            event = self._structured(delivery.body)
        elif content_type in ("", BINARY):
            event = self._binary(delivery)
        else:
            raise Undecodable(f"content type must be {STRUCTURED}, {BATCH} or {BINARY}")
        self._window.check(event, now)
        return [Item(delivery, event)]

    def _structured(self, body: bytes) -> Event:
        try:
            return _versioned(self._event.validate_json(body, context=self._limits))
        except ValidationError as error:
            raise explain(error, self._types) from None

    def _array(self, delivery: Delivery, now: datetime) -> list[Item]:
        try:
            events = self._events.validate_json(delivery.body, context=self._limits)
        except ValidationError:
            return self._array_with_culprits(delivery, now)
        self._check_count(len(events))
        return [self._item(delivery, event, index, now) for index, event in enumerate(events)]

    def _array_with_culprits(self, delivery: Delivery, now: datetime) -> list[Item]:
        """One by one, so that a bad element costs only itself."""
        try:
            spans = elements(delivery.body, self._max_events)
        except ValueError as error:
            raise Undecodable(f"the body is not a JSON array of events: {error}") from None
        self._check_count(len(spans))
        delivery.spans = spans
        items = []
        for index in range(len(spans)):
            try:
                event = self._structured(delivery.element(index))
            except EventError as error:
                items.append(Item(delivery, None, error, index, delivery.element(index)))
            else:
                items.append(self._item(delivery, event, index, now))
        return items

    def _item(self, delivery: Delivery, event: Event, index: int, now: datetime) -> Item:
        try:
            self._window.check(_versioned(event), now)
        except EventError as error:
            return Item(delivery, None, error, index, delivery.element(index))
        return Item(delivery, event, None, index)

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise Undecodable("a CloudEvents batch must hold one event at least")
        if count > self._max_events:
            raise TooLarge(
                f"the array has more than {self._max_events} events (STREAMS_MAX_EVENTS_PER_MESSAGE)"
            )

    def _binary(self, delivery: Delivery) -> Event:
        attributes = _binary_attributes(delivery)
        name = self._known_type(attributes["type"])
        try:
            data = self._data[name].validate_json(delivery.body, context=self._limits)
        except ValidationError as error:
            raise explain(error, self._types, "data.") from None
        try:
            # Lax, because AMQP gives text where the model wants an instant; the data is validated already.
            return self._types[name].model_validate({**attributes, "data": data}, strict=False)
        except ValidationError as error:
            raise explain(error, self._types) from None

    def _known_type(self, name: object) -> str:
        if not isinstance(name, str):
            raise InvalidEvent("must be a string", field="type")
        if name not in self._types:
            raise unknown_type(name, self._types)
        return name


def _versioned(event: Event) -> Event:
    given = event.model_fields_set
    if "specversion" not in given:
        raise InvalidEvent('is missing; it must be "1.0"', field="specversion")
    if "type" not in given:  # the only type of its family: nothing had to choose by it
        raise InvalidEvent("is missing", field="type")
    return event


def _binary_attributes(delivery: Delivery) -> dict[str, Any]:
    """CloudEvents attributes from AMQP: properties first, refined by `cloudEvents:` headers."""
    attributes: dict[str, Any] = {
        "id": delivery.message_id,
        "type": delivery.type,
        "source": delivery.app_id,
        "time": delivery.timestamp,
        "traceparent": delivery.headers.get("traceparent"),
        "tracestate": delivery.headers.get("tracestate"),
    }
    for name in _ATTRIBUTES:
        value = delivery.headers.get(f"cloudEvents:{name}", delivery.headers.get(f"cloudEvents_{name}"))
        if value is not None:
            attributes[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    missing = [name for name in ("id", "type", "source", "time") if attributes[name] is None]
    if missing:
        raise InvalidEvent(
            "is missing: binary mode takes message_id, type, app_id and timestamp, or headers cloudEvents:*",
            field=missing[0],
        )
    if not isinstance(attributes["time"], datetime):
        attributes["time"] = _instant(attributes["time"])
    for name in ("traceparent", "tracestate"):
        if not isinstance(attributes[name], str):
            attributes[name] = None
    return attributes


def _instant(text: object) -> datetime:
    try:
        return datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidEvent("must be an RFC 3339 time with a zone", field="time") from None
