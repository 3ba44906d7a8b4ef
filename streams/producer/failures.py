"""Failures that nobody has been told of yet."""

from __future__ import annotations

from typing import Final

from streams.producer.errors import NotConfirmed

_LISTED: Final = 1000


class Failures:
    """What failed since it was last told; listed up to a bound, counted beyond."""

    def __init__(self) -> None:
        self._listed: list[NotConfirmed] = []
        self._more = 0

    def add(self, error: NotConfirmed) -> None:
        if len(self._listed) < _LISTED:
            self._listed.append(error)
        else:
            self._more += 1

    def told(self, error: NotConfirmed) -> None:
        """Its caller has it."""
        for index, known in enumerate(self._listed):
            if known is error:
                del self._listed[index]
                return

    def tell(self) -> None:
        """Start anew.

        Raises:
            NotConfirmed: there were some; it names their events.
        """
        failures, self._listed = self._listed, []
        more, self._more = self._more, 0
        if not failures:
            return
        count = f"{len(failures) + more} events failed; the first: " if len(failures) > 1 else ""
        raise NotConfirmed(
            f"{count}{failures[0].reason}",
            [event for failure in failures for event in failure.events],
            maybe_sent=any(failure.maybe_sent for failure in failures),
        )
