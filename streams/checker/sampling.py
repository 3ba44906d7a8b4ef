"""Which of the many invalidated subjects are looked at: a bounded sample, drawn every few milliseconds."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from random import Random
from typing import Final

from streams.checker.subjects import Kind, Subject

_NEW: Final = 1 / 3
_REMEMBERED: Final = 20_000


@dataclass(slots=True)
class _Reservoir:
    """A uniform sample of what is offered between two draws (Vitter's algorithm R)."""

    size: int
    offered: int = 0
    kept: list[Subject] = field(default_factory=list)

    def offer(self, subject: Subject, rng: Random) -> None:
        self.offered += 1
        if len(self.kept) < self.size:
            self.kept.append(subject)
        elif (place := rng.randrange(self.offered)) < self.size:
            self.kept[place] = subject


class Sampler:
    """Takes note of all that is heard, hands out what is to be looked at.

    Subjects that we have read come first: caches hold those, and have something to lose. Some new ones are
    always among them, and are held from then on.

    Args:
        burst: subjects of a kind that are kept between two draws, known ones and new ones each.
    """

    def __init__(self, burst: int = 16, rng: Random | None = None) -> None:
        self._burst = burst
        self._rng = rng or Random()
        self._known = {kind: _Reservoir(burst) for kind in Kind}
        self._new = {kind: _Reservoir(burst) for kind in Kind}
        self._read_at: OrderedDict[Subject, float] = OrderedDict()
        self._turn = 0
        self.heard: Counter[Kind] = Counter()

    def hear(self, subject: Subject) -> None:
        self.heard[subject.kind] += 1
        reservoirs = self._known if subject in self._read_at else self._new
        reservoirs[subject.kind].offer(subject, self._rng)

    def note_read(self, subject: Subject, at: float) -> None:
        """The API has just answered this: it is in a cache now, most likely."""
        self._read_at[subject] = at
        self._read_at.move_to_end(subject)
        if len(self._read_at) > _REMEMBERED:
            self._read_at.popitem(last=False)

    def is_known(self, subject: Subject) -> bool:
        return subject in self._read_at

    def draw(self, most: int) -> list[Subject]:
        """Up to `most` different subjects, the kinds in turn; what was not drawn is forgotten."""
        piles = [pile for kind in Kind if (pile := self._pile(kind))]
        drawn: dict[Subject, None] = {}
        if piles:
            self._turn += 1
            first = self._turn % len(piles)
            piles = piles[first:] + piles[:first]
        while piles and len(drawn) < most:
            for pile in piles:
                if len(drawn) < most:
                    drawn.setdefault(pile.pop())
            piles = [pile for pile in piles if pile]
        for reservoirs in (self._known, self._new):
            for kind in Kind:
                reservoirs[kind] = _Reservoir(self._burst)
        return list(drawn)

    def _pile(self, kind: Kind) -> list[Subject]:
        """Of a kind, what comes first at the end: known ones, but every third or so is new."""
        known, new = self._known[kind].kept, self._new[kind].kept
        for kept in (known, new):
            self._rng.shuffle(kept)
        pile: list[Subject] = []
        while known or new:
            takes_new = new and (not known or self._rng.random() < _NEW)
            pile.append((new if takes_new else known).pop())
        return pile[::-1]
