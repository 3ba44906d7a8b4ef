"""Live progress: a table that redraws itself in a terminal, a line every two seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

LINE_SECONDS = 2.0


@dataclass(slots=True)
class Snapshot:
    """Where the run stands. Counts in events; `latency` in seconds, recent publish to confirm."""

    phase: str = "starting"
    planned: int = 0
    sent: int = 0
    confirmed: int = 0
    stored: int = 0
    refused: int = 0
    applied: int = 0
    reads: int = 0
    hit_ratio: float | None = None
    rate: float = 0.0
    latency: float | None = None
    awaited: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Progress:
    """A context. `look` is called at each refresh to bring the snapshot up to date."""

    console: Console
    snapshot: Snapshot
    look: Callable[[Snapshot], None] = lambda _: None
    _live: Live | None = None
    _last_line: float = field(default=0.0)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, name: str) -> None:
        """Begin another phase; always shown at once."""
        self.snapshot.phase = name
        if self._live is None:
            self.console.print(name, highlight=False)
            self._last_line = time.monotonic()
        else:
            self.refresh()

    def refresh(self) -> None:
        self.look(self.snapshot)
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif self.snapshot.sent and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def _values(self) -> dict[str, str]:
        s = self.snapshot
        values = {
            "sent": f"{s.sent:,} of {s.planned:,}",
            "confirmed": f"{s.confirmed:,}",
            "stored": f"{s.stored:,}",
            "refused": f"{s.refused:,}",
            "invalidations applied": f"{s.applied:,}",
            "reads": f"{s.reads:,}" + (f" ({s.hit_ratio:.0%} hits)" if s.hit_ratio is not None else ""),
            "rate": f"{s.rate:,.0f} events/s",
            "publish to confirm": f"{s.latency * 1000:.1f} ms" if s.latency is not None else "-",
        }
        return values | ({"awaited": "; ".join(s.awaited)} if s.awaited else {})

    def _line(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._values().items())

    def _table(self) -> Table:
        table = Table(title=self.snapshot.phase, show_header=False, title_justify="left", min_width=44)
        for name, value in self._values().items():
            table.add_row(name, value)
        return table
