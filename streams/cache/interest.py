"""How much a key is read, against how often it is invalidated: what loading it again would be good for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HALF_LIFE: Final = 30.0
"""Seconds after which what was counted counts for half."""

_MEMORY: Final = 200


@dataclass(slots=True)
class Interest:
    """Reads and losses of one key, fading. Reads are counted as they come and fade when it is next lost."""

    at: float
    reads: float = 0.0
    losses: float = 0.0

    def lose(self, now: float) -> None:
        """It was invalidated."""
        fade = 0.5 ** ((now - self.at) / HALF_LIFE)
        self.reads *= fade
        self.losses = self.losses * fade + 1
        self.at = now

    @property
    def worth(self) -> float:
        """The chance that it is read before it is lost once more, if both come by chance: of so many loads
        of it, one spares a reader the wait."""
        return self.reads / (self.reads + self.losses) if self.reads else 0.0


@dataclass(slots=True)
class Payoff:
    """Of the last two hundred values that were read ahead, the share that somebody read before it went."""

    share: float = 0.05

    def note(self, *, used: bool) -> None:
        self.share += (used - self.share) / _MEMORY
