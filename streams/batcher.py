"""Collects items until a batch is due: by size, by bytes, or by the age of the oldest item.

Pure bookkeeping with the time passed in: no clock, no tasks, no I/O. Lanes that are free take what is
due. A batch that is not full waits while another one is in flight, as Nagle's algorithm has it: a
transaction costs milliseconds whatever its size, and small ones side by side wait for each other's rows.
So batches grow with the load by themselves, and an idle stream still answers within `linger`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from schemas.contract import BatchPolicy, Trigger

T = TypeVar("T")

_PATIENCE: Final = 10  # lingers that a batch which is not full waits for the one in flight, at most


@dataclass(frozen=True, slots=True)
class Closed(Generic[T]):
    """A batch that is ready to run, and what closed it."""

    items: list[T]
    trigger: Trigger


class Batcher(Generic[T]):
    """First in, first out; every item that goes in comes out exactly once."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._items: deque[tuple[T, int, float]] = deque()
        self._bytes = 0
        self.flushing = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T, size: int, now: float) -> None:
        """Take in an item of `size` bytes at the time `now` (seconds, any monotonic clock)."""
        self._items.append((item, size, now))
        self._bytes += size

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take items out that are to be in no batch; returns them."""
        gone = [item for item, _, _ in self._items if unwanted(item)]
        if gone:
            self._bytes -= sum(size for item, size, _ in self._items if unwanted(item))
            self._items = deque(entry for entry in self._items if not unwanted(entry[0]))
        return gone

    def due_in(self, now: float, *, in_flight: bool = False) -> float | None:
        """Seconds until `take` returns a batch; 0 when it would now, None while there is nothing."""
        if not self._items:
            return None
        if self.flushing or self._full():
            return 0.0
        patience = self._policy.linger * (_PATIENCE if in_flight else 1)
        return max(0.0, self._items[0][2] + patience - now)

    def take(self, now: float, *, in_flight: bool = False) -> Closed[T] | None:
        """The next batch that is due, or None. `in_flight`: another one has not ended yet."""
        if self.due_in(now, in_flight=in_flight) != 0.0:
            return None
        trigger = self._trigger()
        items: list[T] = []
        taken = 0
        while self._items and len(items) < self._policy.size:
            item, size, _ = self._items[0]
            if items and taken + size > self._policy.bytes:
                break
            self._items.popleft()
            items.append(item)
            taken += size
        self._bytes -= taken
        return Closed(items, trigger)

    def _full(self) -> bool:
        return len(self._items) >= self._policy.size or self._bytes >= self._policy.bytes

    def _trigger(self) -> Trigger:
        if len(self._items) >= self._policy.size:
            return Trigger.SIZE
        if self._bytes >= self._policy.bytes:
            return Trigger.BYTES
        return Trigger.FLUSH if self.flushing else Trigger.LINGER
