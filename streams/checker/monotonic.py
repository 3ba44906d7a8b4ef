"""Do answers go back in time? A client that has seen a row must not be shown an older one afterwards."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from streams.checker.judge import Answer
from streams.checker.subjects import Subject

_REMEMBERED: Final = 20_000
_EXAMPLES: Final = 20


@dataclass(slots=True)
class Monotonic:
    """Compares answers about one path; only rows with `updated_at`, which never goes back while they live.

    Two answers are compared when the earlier one had come before the later one was asked for.
    """

    compared: int = 0
    backwards: int = 0
    examples: list[str] = field(default_factory=list)
    _newest: OrderedDict[tuple[Subject, str], tuple[float, datetime]] = field(default_factory=OrderedDict)

    def saw(self, subject: Subject, answer: Answer, asked: float, answered: float) -> None:
        """Args: when it was asked for and when it had come, by one clock."""
        for name, row in answer.parts.items():
            if not isinstance(row.get("updated_at"), str):
                continue
            moment, key = datetime.fromisoformat(row["updated_at"]), (subject, name)
            before = self._newest.get(key)
            if before is not None and before[0] <= asked:
                self.compared += 1
                if moment < before[1]:
                    self.backwards += 1
                    if len(self.examples) < _EXAMPLES:
                        self.examples.append(
                            f"{subject.path} {name}: {before[1].isoformat()}, then {moment.isoformat()}"
                        )
            if before is None or moment >= before[1]:
                self._newest[key] = answered, moment
                self._newest.move_to_end(key)
        while len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)
