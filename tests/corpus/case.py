"""One bad (or odd) message of the corpus, and what must become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas.errors import Reason
from schemas.ids import derive_id
from streams.decode import STRUCTURED

NOW: Final = datetime.now(UTC).replace(microsecond=0)
TIME: Final = (NOW - timedelta(hours=1)).isoformat()
TASK: Final = str(derive_id(NOW - timedelta(hours=1), "task"))
ROUND: Final = str(derive_id(NOW - timedelta(hours=1), "round"))
AGENT: Final = "6f1f5c7e-0c1b-4e0a-9d52-0d6c0f0c7a11"
CANARY: Final = "canary-7d1c"
"""A value that many payloads hold: it must turn up in no header, log line or message of ours."""

MAX_BYTES: Final = 200_000
MAX_EVENTS: Final = 50

STORED: Final = None
Outcome = tuple[Reason, str] | None
"""STORED, or the reason code and the field that it is refused with."""


def refused(field_: str, reason: Reason = Reason.INVALID_EVENT) -> Outcome:
    return reason, field_


def outside(field_: str) -> Outcome:
    """Dated where no partition may be."""
    return refused(field_, Reason.OUTSIDE_WINDOW)


def dated(*, name: str = "elsewhere", **ago: float) -> str:
    """A UUIDv7 of some time ago, another one for each name."""
    return str(derive_id(NOW - timedelta(**ago), name))


UNKNOWN: Final = refused("type", Reason.UNKNOWN_TYPE)
UNDECODABLE: Final = refused("", Reason.UNDECODABLE)
TOO_LARGE: Final = refused("", Reason.TOO_LARGE)


@dataclass(frozen=True)
class Case:
    """A message as it is published, and the outcome of each of its events (of the message, if no array).

    `ids` are the ids of its events, where they have one; each is unique in the corpus.
    """

    name: str
    body: bytes
    outcomes: tuple[Outcome, ...]
    ids: tuple[str, ...]
    exchange: str = "tasks"
    content_type: str | bytes | None = STRUCTURED
    properties: Mapping[str, Any] = field(default_factory=dict)
    elements: tuple[bytes, ...] = ()
    """Of an array: the bytes of its elements."""
    is_kept: bool = True
    """Whether the history keeps what is good: not invalidations, not what we publish ourselves."""


def event(name: str, type_: str = "task.created", data: Any = None, **attributes: Any) -> dict[str, Any]:
    """A valid event, but for what is changed; `...` takes an attribute away."""
    whole = {
        "specversion": "1.0",
        "id": name,
        "source": "corpus",
        "type": type_,
        "time": TIME,
        "data": DATA[type_] if data is None else data,
        **attributes,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def changed(type_: str, **fields: Any) -> dict[str, Any]:
    """Valid data of a type, but for these fields; `...` takes one away."""
    return {name: value for name, value in {**DATA[type_], **fields}.items() if value is not ...}


DATA: Final[dict[str, dict[str, Any]]] = {
    "task.created": {"task_id": TASK, "kind": "k", "payload": {"secret": CANARY}},
    "task.assigned": {"task_id": TASK, "agent_id": AGENT},
    "task.started": {"task_id": TASK},
    "task.progressed": {"task_id": TASK, "progress": 0.5, "note": CANARY},
    "task.completed": {"task_id": TASK, "result": {"secret": CANARY}},
    "task.failed": {"task_id": TASK, "error": {"code": "c", "message": CANARY}},
    "task.cancelled": {"task_id": TASK, "reason": CANARY},
    "round.opened": {"round_id": ROUND, "options": ["a", "b"], "quorum": 1000},
    "vote.cast": {"round_id": ROUND, "agent_id": AGENT, "choice": "a", "rationale": CANARY},
    "vote.retracted": {"round_id": ROUND, "agent_id": AGENT},
    "round.closed": {"round_id": ROUND},
    "agent.registered": {"agent_id": AGENT, "name": "n"},
    "agent.status_changed": {"agent_id": AGENT, "status": "active"},
    "cache.invalidated": {"keys": ["u:1"], "tags": ["user"], "reason": CANARY},
    "round.decided": {"round_id": ROUND, "choice": "a", "tally": {"a": 1}, "votes": 1, "decided_at": TIME},
}
EXCHANGES: Final = {
    "task": "tasks",
    "round": "votes",
    "vote": "votes",
    "agent": "agents",
    "cache": "invalidations",
}


def exchange_of(type_: str) -> str:
    return EXCHANGES[type_.partition(".")[0]]


def encode(value: Any) -> bytes:
    """JSON as plainly as possible; lone surrogates are written as escapes."""
    return json.dumps(value).encode()
