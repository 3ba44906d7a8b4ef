"""What is stored of an event besides its effect: its claim and its line of history.

Written down as soon as the event is decoded. The same work costs twice as much when a batch is complete: by
then the event's parts have left the processor's caches.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from pydantic import BaseModel

from schemas.envelope import Event
from schemas.ids import claim_key

HISTORY: Final = ("time", "entity_id", "type", "source", "event_id", "data", "trace_id", "batch_id")
"""Columns of `event_history`, in the order of `Facts.line` and what is added to it."""


_set: Final = object.__setattr__


class Facts(NamedTuple):
    claim: bytes
    """What de-duplication knows the event by; see `claim_key`."""
    line: tuple[datetime, UUID | None, str, str, str, str]
    """Its line of history, but for the trace and the batch."""


_seen: dict[type[BaseModel], set[str]] = {}


def _share_fields_set(model: BaseModel) -> None:
    """Let models of a kind have one set of the fields that were given, as long as these are the same.

    A set of its own is up to 728 bytes, a third of what a decoded event takes. Nobody changes it: models are frozen.
    """
    kind, given = type(model), model.__pydantic_fields_set__
    last = _seen.get(kind)
    if last == given:
        _set(model, "__pydantic_fields_set__", last)
    else:
        _seen[kind] = given


def facts_of(event: Event) -> Facts:
    source, event_id, data = event.source, event.id, event.data
    _share_fields_set(event)
    _share_fields_set(data)
    text = data.model_dump_json(exclude_unset=True)
    line = (event.time, event.entity_id, event.type, source, event_id, text)
    return Facts(claim_key(source, event_id), line)
