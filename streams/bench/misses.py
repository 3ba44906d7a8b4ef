"""Why reads were not answered from a cache: what had been read before, and what had become stale since."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_KEYS: Final = {"tasks": "t:{}", "agents": "ag:{}", "rounds": "q:round:{}"}


class Why(StrEnum):
    """What a miss comes from."""

    FIRST = "read for the first time"
    INVALIDATED = "invalidated since it was read"
    OTHER = "lost otherwise"
    """Expired, evicted, or not stored since an invalidation overtook its load."""


@dataclass(slots=True)
class Misses:
    """Counts answers by kind of path, and those that were no hits by their reason.

    Args:
        applied: seconds since 1970 at which each key was last known to be invalidated.
    """

    applied: Mapping[str, float]
    answers: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, Why]] = field(default_factory=Counter)
    _read_at: dict[str, float] = field(default_factory=dict)

    def note(self, path: str, source: str, *, counts: bool = True) -> None:
        """An answer has come. `counts`: False during a warm-up, which is remembered and not counted."""
        before, self._read_at[path] = self._read_at.get(path), time.time()
        if not counts or source not in ("hit", "miss", "bypass"):
            return
        kind, name = path.split("/")[2:4]
        self.answers[kind] += 1
        if source == "hit":
            return
        if before is None:
            why = Why.FIRST
        else:
            stale = self.applied.get(_KEYS[kind].format(name), 0.0) >= before
            why = Why.INVALIDATED if stale else Why.OTHER
        self.reasons[kind, why] += 1

    def figures(self) -> dict[str, float]:
        """Hit ratio of each kind, and the shares of all answers that were misses for each reason."""
        found: dict[str, float] = {}
        for kind, count in sorted(self.answers.items()):
            missed = sum(n for (which, _), n in self.reasons.items() if which == kind)
            found[f"hit_ratio.{kind}"] = 1 - missed / count
        total = max(1, self.answers.total())
        for why in Why:
            for kind in sorted(self.answers):
                found[f"missed, {kind}: {why}"] = self.reasons[kind, why] / total
        return found
