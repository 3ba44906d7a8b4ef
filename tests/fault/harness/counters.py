"""What one trial ends with: counters in the manner of Jepsen's set test."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

MUST_BE_ZERO: Final = (
    "lost",
    "unexpected",
    "history_doubles",
    "state_differences",
    "innocents",
    "cache_differences",
    "died",
    "problems",
)


@dataclass(slots=True)
class Row:
    """Events unless it says otherwise.

    attempted          good events given to the broker, confirmed or not
    acknowledged       of these, confirmed to the producer
    stored             different events in the history
    lost               acknowledged and not stored, or not told (a decision without its event)
    unexpected         stored, but never attempted, to be refused, or with other content
    history_doubles    stored more than once
    state_differences  rows that differ from what a recomputation from the ledger gives
    innocents          good events in quarantine, or queues' dead letters of any kind that nobody asked for
    cache_differences  answers through the caches that differ from those without
    died               processes that ended without being told to
    redelivered        deliveries beyond the first, as the broker counts them (messages)
    faults             how often the fault was done, in words
    """

    scenario: str
    faults: str = ""
    attempted: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    unexpected: int = 0
    history_doubles: int = 0
    state_differences: int = 0
    innocents: int = 0
    cache_differences: int = 0
    cache_compared: int = 0
    redelivered: int = 0
    died: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    """Anything that is wrong and no counter holds: not at rest in time, a bad event not refused."""
    details: list[str] = field(default_factory=list)
    """The first few differences, one line each."""

    @property
    def ok(self) -> bool:
        return not any(getattr(self, name) for name in MUST_BE_ZERO) and self.attempted > 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 1), "ok": self.ok}
