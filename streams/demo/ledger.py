"""The publisher's ledger: what was sent, when, and what must become of it; one JSON object a line.

{"ledger": 1, "run": ..., "sources": [...], ...}        the first line
{"sent": {"id": ..., "source": ..., ...}}               one line per event and sending
{"decided": {"round_id": ..., "id": ..., ...}}          a round.decided seen on the exchange
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from schemas.errors import ConfigurationError, Reason

Key = tuple[str, str]
"""(source, id): what de-duplication goes by."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One event in one confirmed message. Times in seconds since 1970: `published_at` when the send began,
    `confirmed_at` when the broker had taken responsibility. `refusal`: the reason it must be refused for."""

    id: str
    source: str
    type: str
    time: str
    data: dict[str, Any]
    mode: str
    published_at: float
    confirmed_at: float
    refusal: Reason | None = None

    @property
    def key(self) -> Key:
        return self.source, self.id


@dataclass(slots=True)
class Ledger:
    """Append-only; `good` and `bad` hold the first sending of every event."""

    run: str
    sources: list[str]
    path: Path | None = None
    good: dict[Key, Sent] = field(default_factory=dict)
    bad: dict[Key, Sent] = field(default_factory=dict)
    decided: list[dict[str, Any]] = field(default_factory=list)
    watched: bool = False
    """Whether round.decided was listened for from the first event to the last."""
    sendings: int = 0
    _file: BinaryIO | None = None

    def open(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._write({"ledger": 1, "run": self.run, "sources": self.sources})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def record(self, entries: Iterable[Sent]) -> None:
        for sent in entries:
            self._keep(sent)
            self._write({"sent": sent})

    def record_decided(self, decided: Iterable[dict[str, Any]]) -> None:
        """What was heard of round.decided, once listening has ended."""
        self.watched = True
        self._write({"watched": True})
        for event in decided:
            self.decided.append(event)
            self._write({"decided": event})

    @property
    def repeats(self) -> int:
        """Sendings beyond the first of an event."""
        return self.sendings - len(self.good) - len(self.bad)

    def _keep(self, sent: Sent) -> None:
        self.sendings += 1
        shelf = self.good if sent.refusal is None else self.bad
        known = shelf.get(sent.key)
        if known is None or sent.published_at < known.published_at:
            shelf[sent.key] = sent

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(line) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """Read a ledger back.

        Raises:
            ConfigurationError: no such file, or not a ledger.
        """
        try:
            lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
            head = lines[0]
            ledger = cls(run=head["run"], sources=head["sources"], path=path)
            for line in lines[1:]:
                ledger._read(line)
        except OSError as error:
            raise ConfigurationError(f"cannot read the ledger {path}: {error.strerror}") from error
        except (orjson.JSONDecodeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path} is not a ledger of `streams demo`") from error
        return ledger

    def _read(self, line: dict[str, Any]) -> None:
        if "sent" in line:
            entry = line["sent"]
            refusal = entry["refusal"]
            self._keep(Sent(**{**entry, "refusal": None if refusal is None else Reason(refusal)}))
        elif "decided" in line:
            self.decided.append(line["decided"])
        elif "watched" in line:
            self.watched = True
