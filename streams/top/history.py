"""What was, for the sparklines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from streams.top.view import View

_LEVELS: Final = "▁▂▃▄▅▆▇█"
LENGTH: Final = 600


class History:
    """The last values of what is drawn; None where there was none."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float | None]] = {}

    def add(self, view: View) -> None:
        for name, value in (
            ("stored", view.stored),
            ("commit_age", view.commit_age[1]),
            ("cache_age", view.cache_age[1]),
            ("requests", view.requests),
            ("request_time", view.request_time[1]),
            ("hits", view.hit_ratio),
            ("transaction", view.transaction[1]),
            ("backlog", view.backlog),
        ):
            self._values.setdefault(name, deque(maxlen=LENGTH)).append(value)

    def line(self, name: str, width: int, each: int = 1) -> str:
        """The latest values as a line of blocks, the newest on the right.

        Args:
            each: how many values one block stands for: their greatest.
        """
        values = list(self._values.get(name, ()))
        chunks = [values[max(0, end - each) : end] for end in range(len(values), 0, -each)][:width]
        drawn = [max((v for v in chunk if v is not None), default=None) for chunk in reversed(chunks)]
        return sparkline(drawn, full=1.0 if name == "hits" else None).rjust(width)


def sparkline(values: Iterable[float | None], full: float | None = None) -> str:
    """One block a value, from nothing to the greatest; a space where there is none.

    Args:
        full: what a full block stands for, instead of the greatest.
    """
    values = list(values)
    greatest = full or max((value for value in values if value is not None), default=0.0)
    if greatest <= 0:
        return "".join(" " if value is None else _LEVELS[0] for value in values)
    top = len(_LEVELS) - 1
    # What is not nothing is seen to be something.
    return "".join(
        " " if value is None else _LEVELS[max(int(value > 0), round(max(0.0, value) / greatest * top))]
        for value in values
    )
