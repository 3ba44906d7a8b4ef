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
    _missed: dict[str, Why] = field(default_factory=dict)

    def note(self, path: str, source: str, asked: float, *, counts: bool = True) -> None:
        """An answer has come.

        Args:
            asked: when the request was sent, in seconds since 1970.
            counts: False during a warm-up, which is remembered and not counted.
        """
        if source not in ("hit", "miss", "bypass"):
            return
        kind, name = path.split("/")[2:4]
        before, self._read_at[path] = self._read_at.get(path), time.time()
        if source != "hit":
            why = self._missed[path] = self._why(path, _KEYS[kind].format(name), before, asked)
            if counts:
                self.reasons[kind, why] += 1
        if counts:
            self.answers[kind] += 1

    def _why(self, path: str, key: str, before: float | None, asked: float) -> Why:
        if before is None:
            return Why.FIRST
        if before >= asked and path in self._missed:
            return self._missed[path]  # both waited for the same load
        return Why.INVALIDATED if self.applied.get(key, 0.0) >= before else Why.OTHER

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
