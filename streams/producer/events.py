"""From what a caller has at hand to an event that keeps the contract; nothing else is ever sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypedDict, Union, Unpack, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from schemas.agents import AgentEvent
from schemas.envelope import Data, Event, event_types
from schemas.errors import InvalidEvent, TooLarge
from schemas.ids import uuid7
from schemas.invalidations import CacheInvalidated
from schemas.tasks import TaskEvent
from schemas.votes import VoteEvent
from streams.explain import explain, unknown_type

FAMILIES: Final[Sequence[object]] = (TaskEvent, VoteEvent, AgentEvent, CacheInvalidated)
"""What producers may send, as docs and schemas/ list it."""


class Attributes(TypedDict, total=False):
    """What a caller may set instead of having it filled in."""

    id: str
    time: datetime
    source: str


_TICK: Final = timedelta(microseconds=1)
_STEP: Final = timedelta(seconds=1)


class Catalogue:
    """The event types of a producer, and its source.

    Args:
        families: Event classes, or unions of them.
        source: what events that it makes carry as their `source`.
    """

    def __init__(self, families: Sequence[object], source: str) -> None:
        self.types: dict[str, type[Event]] = {}
        for family in families:
            self.types |= event_types(family)
        self._source = source
        self._data: dict[type, list[type[Event]]] = {}
        for cls in self.types.values():
            self._data.setdefault(cast("type", cls.model_fields["data"].annotation), []).append(cls)
        members: Any = Union[tuple(self.types.values())]  # noqa: UP007 - the members are known at run time only
        if len(self.types) > 1:
            members = Annotated[members, Field(discriminator="type")]
        self._event: TypeAdapter[Event] = TypeAdapter(members)
        self._last = datetime.min.replace(tzinfo=UTC)

    def make(
        self,
        what: Event | Data | str,
        data: Mapping[str, Any] | Data | None = None,
        **attributes: Unpack[Attributes],
    ) -> Event:
        """The event itself; or one made of its data, or of its type and data, with what is missing filled in.

        Raises:
            EventError: it breaks the contract; `field` names the culprit.
            TypeError: neither of the three forms.
        """
        if isinstance(what, Event):
            if data is not None or attributes:
                raise TypeError("an event is complete: nothing can be added to it")
            return what
        if isinstance(what, Data) and data is None:
            cls, checked = self._class_of(what), what
        elif isinstance(what, str) and data is not None:
            cls = self._class_named(what)
            checked = self._checked(cls, data)
        else:
            raise TypeError("send an event, its data, or its type and data")
        try:
            return cls.model_validate(
                {
                    "id": attributes["id"] if "id" in attributes else str(uuid7()),
                    "source": attributes.get("source", self._source),
                    "time": attributes["time"] if "time" in attributes else self.now(),
                    "data": checked,
                }
            )
        except ValidationError as error:
            raise explain(error, self.types) from None

    def parse(self, line: bytes | str) -> Event:
        """An event out of JSON: a whole CloudEvent, or an object with `type` and `data` at least.

        Raises:
            EventError: it breaks the contract; `field` names the culprit.
        """
        text = line.encode() if isinstance(line, str) else line
        try:
            return self._event.validate_json(text)
        except ValidationError as error:
            filled = self._filled(text)
            if filled is None:
                raise explain(error, self.types) from None
        try:
            return self._event.validate_json(filled)
        except ValidationError as error:
            raise explain(error, self.types) from None

    def _filled(self, text: bytes) -> bytes | None:
        """The text with the attributes that it lacks put in front; None if it lacks none, or is no object.

        What is there already is not written anew: a number would come out rounded.
        """
        try:
            found = from_json(text, allow_inf_nan=False)
        except ValueError:
            return None
        if not isinstance(found, dict) or not found:
            return None
        missing: dict[str, str] = {}
        if "id" not in found:
            missing["id"] = str(uuid7())
        if "source" not in found:
            missing["source"] = self._source
        if "time" not in found:
            missing["time"] = self.now().isoformat()
        if not missing:
            return None
        return to_json(missing)[:-1] + b"," + text.lstrip()[1:]

    def now(self) -> datetime:
        """The time; later than any it gave before, unless the clock was set back by more than a second.

        The service orders events by their time, so two of one producer should not share theirs.
        """
        now = datetime.now(UTC)
        if now <= self._last and self._last - now < _STEP:
            now = self._last + _TICK
        self._last = now
        return now

    def _class_named(self, name: str) -> type[Event]:
        cls = self.types.get(name)
        if cls is None:
            raise unknown_type(name, self.types)
        return cls

    def _class_of(self, data: Data) -> type[Event]:
        classes = self._data.get(type(data), [])
        if len(classes) != 1:
            raise TypeError(
                f"{type(data).__name__} is the data of {len(classes)} known event types: name the type, "
                "or send the event"
            )
        return classes[0]

    def _checked(self, cls: type[Event], data: Mapping[str, Any] | Data) -> Data:
        model = cast("type[BaseModel]", cls.model_fields["data"].annotation)
        if isinstance(data, BaseModel):
            if not isinstance(data, model):
                raise TypeError(f"the data of {cls.__name__} is {model.__name__}, not {type(data).__name__}")
            return data
        try:
            # Through JSON, because that is what will be sent: UUIDs and times may be given as text, too.
            raw = to_json(data)
        except (RecursionError, ValueError) as error:
            raise InvalidEvent(f"cannot be written as JSON: {error}"[:200], field="data") from None
        try:
            return cast("Data", model.model_validate_json(raw))
        except ValidationError as error:
            raise explain(error, self.types, "data.") from None


def encode(event: Event, max_bytes: int) -> bytes:
    """The event as JSON, without what is not set.

    Raises:
        TooLarge: it would be refused for its size.
    """
    body: bytes = event.__pydantic_serializer__.to_json(event, exclude_none=True)
    if len(body) > max_bytes:
        raise TooLarge(f"the event has {len(body)} bytes; the limit is {max_bytes}")
    return body
