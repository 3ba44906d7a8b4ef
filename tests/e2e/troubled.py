"""A family for tests, outside the product's handlers: its events say how handling them goes wrong."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, ClassVar, Literal
from uuid import UUID

from schemas.errors import Refused
from streams import Batch, BatchPolicy, Changes, Data, Event, Stream

stream = Stream("troubled")

attempts: list[int] = []
broken = False
fixed = False
"""The handler takes everything, as after a deployment."""
gate: asyncio.Event | None = None
"""What a batch waits for that begins now."""


def reset() -> None:
    """As before the first test."""
    global broken, fixed, gate  # noqa: PLW0603 - the handler is a module's function, as any user's
    attempts.clear()
    broken = fixed = False
    gate = None


class TroubleData(Data):
    note_id: UUID
    trouble: str | None = None


class NoteTaken(Event):
    exchange: ClassVar[str] = "notes"
    entity: ClassVar[str] = "note_id"
    type: Literal["note.taken"] = "note.taken"
    data: TroubleData


@stream.handler(exchange="notes", events=NoteTaken, batch=BatchPolicy(size=500, linger=0.02, lanes=2))
async def record_notes(batch: Batch[NoteTaken], tx: Any) -> Changes:
    """Go wrong as told."""
    attempts.append(len(batch.events))
    if gate is not None:
        await gate.wait()
    if broken:
        raise KeyError("a bug that hits every event")
    for event in batch.events:
        match None if fixed else event.data.trouble:
            case "sql":
                await tx.execute("SELECT $1::text", "NUL \0 in a text")
            case "refuse":
                raise Refused("cannot be applied", field="data.trouble")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)  # for workers that are processes of their own
            case "bug":
                raise KeyError("a bug that hits one event")
            case _:
                pass
    return Changes(keys={f"q:note:{event.data.note_id}" for event in batch.fresh})
