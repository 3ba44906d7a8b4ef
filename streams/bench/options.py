"""What a measurement is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Export(StrEnum):
    """What becomes of spans."""

    OTLP = "otlp"
    """Exported to a receiver on loopback, which decodes and counts them."""
    DISCARD = "discard"
    """Built, handed to an exporter, thrown away there."""
    NONE = "none"
    """Never made."""


class By(StrEnum):
    """What a scaling run varies."""

    WORKERS = "workers"
    STORED = "stored"
    PAYLOAD = "payload"
    BACKLOG = "backlog"


class Tale(StrEnum):
    """What the backlog is about."""

    MIX = "mix"
    """Tasks through their lives, rounds and their votes, agents."""
    CREATED = "created"
    """Tasks that are created, and nothing else: each event is a row of its own in every table."""


@dataclass(frozen=True, slots=True)
class Options:
    """A backlog and how it is drained.

    `array`: events per message (0: one event, by itself). `payload`: bytes of prose in a task's payload and
    in its result. `protocol`: OTEL_EXPORTER_OTLP_PROTOCOL of the service. `stored`: rows
    that tasks, history and de-duplication hold beforehand. `profile`: where the worker's collapsed stacks go.
    """

    events: int
    array: int = 0
    workers: int = 1
    payload: int = 200
    export: Export = Export.OTLP
    protocol: str | None = None
    seed: int = 1
    stored: int = 0
    profile: str | None = None
    story: Tale = Tale.MIX

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
