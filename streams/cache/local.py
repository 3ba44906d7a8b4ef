"""Values that this process holds in memory, in front of Redis.

Only what somebody tells to drop may be held: so it is empty unless it has been opened for a time (bus.py
does that while updaters are heard), and emptied whenever that time runs out or the line to them was cut.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from streams.cache.found import Want
from streams.cache.interest import Interest, Payoff
from streams.telemetry import Metrics

T = TypeVar("T")

_SLOT_BYTES: Final = 1_000
"""About what an entry costs beside its value: its key, tags, times, the function that loads it."""


@dataclass(slots=True)
class Slot:
    """A value, and how to have it again."""

    want: Want
    value: bytes
    expires: float
    interest: Interest
    unread: bool
    """Read ahead, and nobody has come for it yet."""


@dataclass(slots=True, eq=False)
class Fill:
    """A look-up under way; dead once something that it may have read before was invalidated."""

    want: Want
    dead: bool = False


@dataclass(slots=True)
class LocalLimits:
    """What it may hold. A value above an eighth of the bytes is not held; of values that were read ahead and
    that nobody has asked for yet, a quarter of the entries."""

    entries: int = 10_000
    bytes: int = 50_000_000
    seconds: float = 60.0


@dataclass(slots=True)
class Local:
    """Least recently used goes first; everything takes a time that does not depend on how much is held,
    except an invalidation, which takes as long as it drops entries.

    Args:
        clock: monotonic seconds.
    """

    metrics: Metrics
    limits: LocalLimits = field(default_factory=LocalLimits)
    clock: Callable[[], float] = time.monotonic
    held_bytes: int = 0
    payoff: Payoff = field(default_factory=Payoff)
    _until: float = float("-inf")
    _slots: OrderedDict[str, Slot] = field(default_factory=OrderedDict)
    _unread: dict[str, None] = field(default_factory=dict)
    _known: OrderedDict[str, Interest] = field(default_factory=OrderedDict)
    """Of keys that are asked for and not held."""
    _by_tag: dict[str, set[str]] = field(default_factory=dict)
    _fills: dict[str, set[Fill]] = field(default_factory=dict)
    _tag_fills: dict[str, set[Fill]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics.cache_entries.labels("l1").set_function(self.__len__)
        self.metrics.cache_bytes.labels("l1").set_function(lambda: self.held_bytes)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def is_open(self) -> bool:
        return self.clock() < self._until

    def open(self, until: float) -> None:
        """Hold values until then, on our clock, or until opened for longer; empty it if that was over."""
        if not self.is_open:
            self.flush()
        self._until = until

    def close(self) -> None:
        """Hold nothing until opened again."""
        self._until = float("-inf")
        self.flush()

    def get(self, key: str) -> Slot | None:
        """What is held under the key. Both outcomes count as interest in it."""
        now = self.clock()
        slot = self._slots.get(key)
        if now >= self._until:
            return None
        if slot is not None and now >= slot.expires:
            self._drop(key)
            slot = None
        if slot is None:
            self._miss(key, now)
            return None
        self._slots.move_to_end(key)
        slot.interest.reads += 1
        if slot.unread:
            self._end_ahead(slot, used=True)
        return slot

    def holds(self, key: str) -> bool:
        return key in self._slots

    def interest(self, key: str) -> Interest | None:
        """That in a key which is not held."""
        return self._known.get(key)

    def begin(self, want: Want) -> Fill:
        """To be called before anything is looked up; `end` the fill in any case."""
        fill = Fill(want)
        self._fills.setdefault(want.key, set()).add(fill)
        for tag in want.tags:
            self._tag_fills.setdefault(tag, set()).add(fill)
        return fill

    def end(self, fill: Fill) -> None:
        _discard(self._fills, fill.want.key, fill)
        for tag in fill.want.tags:
            _discard(self._tag_fills, tag, fill)

    def put(self, fill: Fill, value: bytes, seconds: float) -> None:
        """Hold a value for so long, unless an invalidation was heard since its look-up began."""
        if fill.dead:
            self.metrics.cache_stale_drops.labels("l1").inc()
            return
        now, want = self.clock(), fill.want
        if now >= self._until or want.strict or len(value) > self.limits.bytes // 8:
            return
        self._drop(want.key)
        interest = self._known.pop(want.key, None)
        unread = want.ahead and interest is None
        slot = Slot(want, value, now + min(seconds, self.limits.seconds), interest or Interest(now), unread)
        self._slots[want.key] = slot
        self.held_bytes += _SLOT_BYTES + len(value)
        for tag in want.tags:
            self._by_tag.setdefault(tag, set()).add(want.key)
        if unread:
            self._unread[want.key] = None
            if len(self._unread) > self.limits.entries // 4:
                self._drop(next(iter(self._unread)))
        while len(self._slots) > self.limits.entries or self.held_bytes > self.limits.bytes:
            self._drop(next(iter(self._slots)))
            self.metrics.cache_evictions.labels("l1").inc()

    def invalidate(self, keys: Iterable[str], tags: Iterable[str]) -> list[Slot]:
        """Drop what is held under these, fills under way included; what was dropped."""
        names = list(keys)
        for key in names:
            _kill(self._fills.get(key))
        for tag in tags:
            _kill(self._tag_fills.get(tag))
            names += self._by_tag.get(tag, ())
        now, dropped = self.clock(), []
        for key in names:
            slot = self._drop(key)
            if slot is not None:
                dropped.append(slot)
            interest = slot.interest if slot is not None else self._known.get(key)
            if interest is not None:
                interest.lose(now)
        return dropped

    def flush(self) -> None:
        """Drop everything, fills under way included."""
        for fills in self._fills.values():
            _kill(fills)
        self._slots.clear()
        self._unread.clear()
        self._by_tag.clear()
        self.held_bytes = 0

    def _drop(self, key: str) -> Slot | None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.held_bytes -= _SLOT_BYTES + len(slot.value)
            for tag in slot.want.tags:
                _discard(self._by_tag, tag, key)
            if slot.unread:
                self._end_ahead(slot, used=False)
            elif slot.interest.reads:
                self._know(key, slot.interest)
        return slot

    def _miss(self, key: str, now: float) -> None:
        interest = self._known.get(key)
        if interest is None:
            interest = Interest(now)
        self._know(key, interest)
        interest.reads += 1

    def _know(self, key: str, interest: Interest) -> None:
        self._known[key] = interest
        self._known.move_to_end(key)
        if len(self._known) > self.limits.entries:
            self._known.popitem(last=False)

    def _end_ahead(self, slot: Slot, *, used: bool) -> None:
        slot.unread = False
        self._unread.pop(slot.want.key, None)
        self.payoff.note(used=used)
        self.metrics.cache_read_ahead.labels("used" if used else "unused").inc()


def _kill(fills: set[Fill] | None) -> None:
    for fill in fills or ():
        fill.dead = True


def _discard(sets: dict[str, set[T]], name: str, member: T) -> None:
    """Take a member out, and the set with the last of them: names must not pile up."""
    members = sets.get(name)
    if members is not None:
        members.discard(member)
        if not members:
            del sets[name]
