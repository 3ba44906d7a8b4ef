"""A handler whose errors quote what it was given, as other people's handlers do: on a queue of its own
behind `agents`, so that the worker's user may read it."""

from __future__ import annotations

from typing import Any

from schemas.agents import AgentEvent, AgentRegistered
from streams import Batch, Changes, Stream

stream = Stream("agents-leaky")


@stream.handler(exchange="agents", events=AgentEvent, queue="agents.leaky")
async def leak(batch: Batch[AgentEvent], tx: Any) -> Changes:
    """Fail as the agent's name says."""
    for event in batch.events:
        name = event.data.name if isinstance(event, AgentRegistered) else ""
        if name.startswith("raise"):
            raise ValueError(f"cannot use {event!r}")
        if name.startswith("check"):
            # DETAIL: Token "..." is invalid.
            await tx.execute("SELECT ($1::text)::json", f'"{name}')
        if name.startswith("text"):
            await tx.execute("SELECT $1::text", f"{name}\0")
    return Changes()
