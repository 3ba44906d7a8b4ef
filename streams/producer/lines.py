"""Events from lines of JSON (NDJSON): checked before anything of their chunk is sent, never all in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from schemas.envelope import Event
from schemas.errors import EventError, TooLarge
from streams.producer.client import Producer
from streams.producer.errors import NotConfirmed
from streams.producer.events import Catalogue
from streams.producer.sources import Line


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line."""

    line: int
    message: str
    field: str = ""
    event_id: str = ""


@dataclass(slots=True)
class Report:
    """What became of the lines. `invalid` and `failed` are counted in full, listed up to the limit."""

    limit: int
    lines: int = 0
    """Lines looked at; empty ones are none."""
    valid: int = 0
    invalid: int = 0
    sent: int = 0
    confirmed: int = 0
    failed: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    failures: list[Problem] = field(default_factory=list)

    def refuse(self, number: int, error: EventError) -> None:
        self.invalid += 1
        if len(self.problems) < self.limit:
            self.problems.append(Problem(number, str(error), error.field))

    def fail(self, number: int, event: Event, error: BaseException) -> None:
        self.failed += 1
        if len(self.failures) < self.limit:
            reason = error.reason if isinstance(error, NotConfirmed) else str(error)
            self.failures.append(Problem(number, reason, event_id=event.id))


class Checker:
    """Turns lines into events, and writes down what is wrong with them.

    Args:
        catalogue: the event types, and the source of lines that name none.
        check: raises EventError for what the service would refuse beyond the event's form.
    """

    def __init__(self, catalogue: Catalogue, check: Callable[[Event], None], max_bytes: int) -> None:
        self._catalogue = catalogue
        self._check = check
        self._max_bytes = max_bytes

    def check(self, lines: Iterable[Line], report: Report) -> Iterator[tuple[int, Event]]:
        """The valid events of these lines, with their lines' numbers."""
        for number, text in lines:
            report.lines += 1
            try:
                if text is None:
                    raise TooLarge(f"the line is longer than {self._max_bytes} bytes")
                event = self._catalogue.parse(text)
                self._check(event)
            except EventError as error:
                report.refuse(number, error)
            else:
                report.valid += 1
                yield number, event


async def send_lines(
    producer: Producer,
    chunks: AsyncIterable[list[Line]],
    checker: Checker,
    report: Report,
    *,
    skip_invalid: bool,
    rate: float | None,
    stop: asyncio.Event,
) -> None:
    """Check and send chunk by chunk, until the lines end, `stop` is set, or a chunk has an invalid line.

    Nothing of a chunk with an invalid line is sent, unless such lines are skipped. `producer.flush` or
    leaving its context completes the report's counts.
    """
    clock = time.perf_counter
    start = clock()
    async for lines in chunks:
        before = report.invalid
        events = list(checker.check(lines, report))
        if report.invalid > before and not skip_invalid:
            return
        for number, event in events:
            if rate is not None and (ahead := start + report.sent / rate - clock()) > 0.001:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), ahead)
            if stop.is_set():
                return
            try:
                future = await producer.enqueue(event)
            except NotConfirmed as error:
                report.fail(number, event, error)
                return  # there has been no room for long: the broker does not take any more
            report.sent += 1
            future.add_done_callback(partial(_done, report, number, event))


def _done(report: Report, number: int, event: Event, future: asyncio.Future[Event]) -> None:
    error = future.exception()
    if error is None:
        report.confirmed += 1
    else:
        report.fail(number, event, error)
