"""What is stored of an event besides its effect: its claim and its line of history.

Written down as soon as the event is decoded. The same work costs twice as much when a batch is complete: by
then the event's parts have left the processor's caches.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from schemas.envelope import Event
from schemas.ids import claim_key

HISTORY: Final = ("time", "entity_id", "type", "source", "event_id", "data", "trace_id", "batch_id")
"""Columns of `event_history`, in the order of `Facts.line` and what is added to it."""


class Facts(NamedTuple):
    claim: bytes
    """What de-duplication knows the event by; see `claim_key`."""
    line: tuple[datetime, UUID | None, str, str, str, str]
    """Its line of history, but for the trace and the batch."""


def facts_of(event: Event) -> Facts:
    source, event_id, data = event.source, event.id, event.data
    text = data.model_dump_json(exclude_unset=True)
    line = (event.time, event.entity_id, event.type, source, event_id, text)
    return Facts(claim_key(source, event_id), line)
