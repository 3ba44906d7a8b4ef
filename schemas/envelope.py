"""The CloudEvents 1.0 envelope that every event of every family shares."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.fields import Identifier, Instant, TraceText, dated, microseconds

_STAMP = struct.Struct(">QB")
_BEFORE_1970 = 1 << 62  # keeps stamps of instants before 1970 in order, too


class Data(BaseModel):
    """Base of every event's `data`: strict (no coercion), frozen, unknown fields are kept out."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Event(BaseModel):
    """One event. A subclass per type sets `type` to a Literal and `data` to its model.

    Class attributes of a subclass:
        exchange: the exchange that events of this type are published to.
        entity: the field of `data` that names the entity the event is about (a UUID).
        dated_ids: fields of `data` that hold UUIDv7, whose dates must lie inside the storage window.
        mandatory: publishing fails when no queue takes the event.
        rank: the event's place in its entity's life; breaks ties of time.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )

    exchange: ClassVar[str]
    entity: ClassVar[str]
    dated_ids: ClassVar[tuple[str, ...]] = ()
    mandatory: ClassVar[bool] = True
    rank: ClassVar[int] = 0

    specversion: Literal["1.0"] = "1.0"
    """The version of CloudEvents."""
    id: Annotated[Identifier, Field(examples=["7d9f3c1e-0001"])]
    """Unique within its source: an event counts as seen by (source, id)."""
    source: Annotated[Identifier, Field(examples=["research-service"])]
    """Who says so: the producer's name or URI, the same for all its events."""
    type: str
    """What happened; also the routing key."""
    time: Annotated[Instant, Field(examples=["2026-01-15T09:30:00.250Z"])]
    """When it happened. Microseconds count: the greatest event by (time, rank, source, id) wins."""
    data: Any
    """What this type says about it."""
    traceparent: TraceText = None
    """W3C trace context of the event; in an array the only place for it. One that is not valid is ignored."""
    tracestate: TraceText = None
    """W3C trace state that goes with it."""

    @property
    def entity_id(self) -> UUID | None:
        """The entity the event is about; None for an event about none (`entity = ""`)."""
        entity: UUID | None = getattr(self.data, self.entity) if self.entity else None
        return entity

    @property
    def moments(self) -> list[datetime]:
        """All dates of the event that name a partition: its time, and those inside its ids."""
        ids = (getattr(self.data, name) for name in self.dated_ids)
        return [self.time, *(dated(value) for value in ids if value is not None)]

    @property
    def stamp(self) -> bytes:
        """The event's place in the total order (time, rank, source, id), as bytes that sort alike.

        Eight bytes of microseconds, one of rank, then source, NUL and id in UTF-8 (neither may
        contain NUL, and UTF-8 sorts by code point): PostgreSQL's bytea and Python compare them equally.
        """
        head = _STAMP.pack(microseconds(self.time) + _BEFORE_1970, self.rank)
        return head + self.source.encode() + b"\0" + self.id.encode()


def event_types(family: object) -> dict[str, type[Event]]:
    """The classes of a family (one Event class, or a union of them), by their `type`.

    Raises:
        TypeError: a member is no Event with a Literal type.
    """
    members = getattr(family, "__args__", None) or (family,)
    types: dict[str, type[Event]] = {}
    for member in members:
        if not (isinstance(member, type) and issubclass(member, Event)):
            raise TypeError(f"{member!r} is not an Event class")
        literal: tuple[str, ...] = getattr(member.model_fields["type"].annotation, "__args__", ())
        if len(literal) != 1:
            raise TypeError(f"{member.__name__}.type must be a Literal with one value")
        types[literal[0]] = member
    return types
