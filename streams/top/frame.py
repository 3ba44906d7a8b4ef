"""One frame of `streams top`: text for a terminal of a given size.

Colours only help: whatever is wrong has a sign (✗ or !), so that neither NO_COLOR nor colour blindness
hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rich.text import Text

from streams.top.history import History
from streams.top.view import Process, Queue, Statement, View
from streams.top.words import number, percent, rate, size, time
from streams.watch import escaped

T = TypeVar("T")

_BAD: Final = "bold red"
_ODD: Final = "yellow"
_LINE: Final = "cyan"
_LABEL: Final = "bold"
_WIDE: Final = 100
_LATE: Final = 10.0  # seconds; a row lives for milliseconds, and then it is swept
_FEWEST: Final = 4  # lines that the table of statements is worth showing in
_TABLES: Final = 11
"""Lines that the title, two tables of three lines and the footer want."""

SORTS: Final = ("name", "backlog", "rate")
SPANS: Final = (1, 5, 15)
"""Readings that a block of a sparkline stands for."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a frame is shown; what keys change."""

    interval: float = 2.0
    paused: bool = False
    sort: str = SORTS[0]
    span: int = SPANS[0]
    clock: str = ""
    keys: bool = True


def frame(view: View, history: History, options: Options, *, width: int, height: int) -> Text:
    """Exactly `height` lines at most, none wider than `width`; what does not fit is counted."""
    wide = width >= _WIDE
    summary = _summary(view, history, options, width)[: max(2, height - _TABLES)]
    lines = [_title(view, options, width), *summary]
    footer = [_facts(view)]
    if options.keys:
        footer.append(_keys(options))
    queues = _sorted(view.queues, options.sort)
    # Two headings, and an empty line before each where there is room.
    room = max(2, height - len(lines) - len(footer) - 2)
    roomy = room >= len(queues) + len(view.processes) + 2
    gap = [Text("")] if roomy else []
    room -= 2 * len(gap)
    shown_processes = min(len(view.processes), max(1, room - len(queues), room // 2))
    shown_queues = max(1, room - shown_processes)
    lines += gap + _table(_QUEUE_COLUMNS, queues, shown_queues, width, wide=wide)
    lines += gap + _table(_PROCESS_COLUMNS, _worst_first(view.processes), shown_processes, width, wide=wide)
    spare = height - len(lines) - len(footer) - 2
    if view.statements and options.keys and spare >= _FEWEST:
        lines += [Text(""), *_table(_STATEMENT_COLUMNS, view.statements, spare, width, wide=wide)]
    while len(lines) + len(footer) < height and options.keys:
        lines.append(Text(""))
    whole = Text("\n").join(_cut(line, width) for line in [*lines, *footer][:height])
    whole.no_wrap, whole.overflow = True, "crop"
    return whole


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _title(view: View, options: Options, width: int) -> Text:
    total = len(view.processes)
    left = Text().append(" agent streams ", "reverse bold")
    up = f"  {view.up} of {total} processes up"
    left.append(
        up if view.up == total and total else f"  ✗{up[1:]}", "" if view.up == total and total else _BAD
    )
    if view.paused:
        left.append(f"  ✗ paused: {escaped(', '.join(view.paused))}", _BAD)
    state = "‖ paused" if options.paused else f"every {options.interval:g} s"
    right = f"{state}  {options.clock}"
    left.append(" " * max(2, width - left.cell_len - len(right)))
    return left.append(right, _ODD if options.paused else "dim")


def _summary(view: View, history: History, options: Options, width: int) -> list[Text]:
    pool = f"{number(view.pool_used)} of {number(view.pool_most)}"
    waiting = f"  {number(view.pool_waiting)} wait" if view.pool_waiting is not None else ""
    levels = "  ".join(f"{escaped(level)} {percent(share)}" for level, share in view.hits.items())
    transaction = f"p50 {time(view.transaction[0])}  p99 {time(view.transaction[1])}"
    rows = (
        ("events", f"{rate(view.stored)} stored  {rate(view.repeats)} repeats", "stored"),
        ("backlog", f"{number(view.backlog)} messages", "backlog"),
        ("commit age", f"p50 {time(view.commit_age[0])}  p99 {time(view.commit_age[1])}", "commit_age"),
        ("cache age", f"p50 {time(view.cache_age[0])}  p99 {time(view.cache_age[1])}", "cache_age"),
        ("transaction", f"{transaction}  pool {pool}{waiting}", "transaction"),
        ("read API", f"{rate(view.requests)}  p99 {time(view.request_time[1])}", "requests"),
        ("cache hits", f"{percent(view.hit_ratio)}  {levels}".rstrip(), "hits"),
    )
    lines = []
    for label, words, name in rows:
        line = Text(f" {label:<12}", _LABEL).append(words, "not bold")
        if label == "read API" and view.failed:
            line.append(f"  ✗ {rate(view.failed)} failed", _BAD)
        if label == "events" and view.quarantined:
            line.append(f"  ! {rate(view.quarantined)} quarantined", _ODD)
        room = width - max(52, line.cell_len + 2) - 1
        if room >= 8:
            line.append(" " * (width - line.cell_len - room - 1))
            line.append(history.line(name, room, options.span), _LINE)
        lines.append(line)
    return lines


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a table.

    Args:
        width: of its cells; 0 takes what is left.
        wide: only in a wide terminal.
        wrong: whether a cell is to be marked.
    """

    title: str
    width: int
    cell: Callable[[T], str]
    wide: bool = False
    left: bool = False
    wrong: Callable[[T], bool] = lambda _: False


def _table(
    columns: Sequence[Column[T]], rows: Sequence[T], room: int, width: int, *, wide: bool
) -> list[Text]:
    used = [column for column in columns if wide or not column.wide]
    rest = width - 1 - sum(column.width + 1 for column in used if column.width)
    widths = [column.width or max(8, rest - 1) for column in used]
    header = Text(" ")
    for column, own in zip(used, widths, strict=True):
        header.append(column.title.ljust(own) if column.left else column.title.rjust(own), "dim underline")
        header.append(" ")
    lines = [header]
    whole = len(rows) <= room
    for row in rows[: room if whole else max(1, room - 1)]:
        line = Text(" ")
        for column, own in zip(used, widths, strict=True):
            cell = Text(escaped(column.cell(row)))
            cell.truncate(own, overflow="ellipsis")
            cell.align("left" if column.left else "right", own)
            if column.wrong(row):
                cell.stylize(_BAD)
            line.append_text(cell).append(" ")
        lines.append(line)
    if not whole:
        lines.append(Text(f" … and {len(rows) - max(1, room - 1)} more", "dim"))
    return lines


def _consumers(queue: Queue) -> str:
    return f"{'' if queue.reported >= queue.expected else '✗'}{queue.reported:.0f}/{queue.expected:.0f}"


def _trigger(queue: Queue) -> str:
    if not queue.triggers:
        return "-"
    name, share = max(queue.triggers.items(), key=lambda item: item[1])
    return f"{name} {share:.0%}"[:9] if share < 0.9995 else name


_QUEUE_COLUMNS: Final[tuple[Column[Queue], ...]] = (
    Column("queue", 0, lambda q: ("✗ " if q.paused else "") + q.name, left=True, wrong=lambda q: q.paused),
    Column("backlog", 7, lambda q: number(q.backlog)),
    Column("flight", 6, lambda q: number(q.in_flight)),
    Column("stored", 7, lambda q: rate(q.stored)),
    Column("repeats", 8, lambda q: rate(q.repeats), wide=True),
    Column("batch", 5, lambda q: number(q.batch)),
    Column("closed by", 9, _trigger),
    Column("tx p99", 6, lambda q: time(q.transaction)),
    Column("age p99", 7, lambda q: time(q.age), wide=True),
    Column("retry", 5, lambda q: rate(q.retries), wrong=lambda q: bool(q.retries)),
    Column("cons", 5, _consumers, wrong=lambda q: q.reported < q.expected),
)

_PROCESS_COLUMNS: Final[tuple[Column[Process], ...]] = (
    Column("process", 8, lambda p: p.role, left=True),
    Column("address", 21, lambda p: p.name, left=True),
    Column("cpu", 5, lambda p: "-" if p.cpu is None else f"{p.cpu:.0%}"),
    Column("memory", 7, lambda p: size(p.memory)),
    Column("held", 7, lambda p: size(p.held)),
    Column("files", 5, lambda p: number(p.files), wide=True),
    Column("spans", 6, lambda p: number(p.spans), wide=True),
    Column(
        "state", 0,
        lambda p: f"{'✓' if p.well else '✗'} {p.state}{f': {p.trouble}' if p.trouble else ''}",
        left=True, wrong=lambda p: not p.well,
    ),
)  # fmt: skip

_STATEMENT_COLUMNS: Final[tuple[Column[Statement], ...]] = (
    Column("statement", 0, lambda s: s.name, left=True),
    Column("calls", 8, lambda s: rate(s.calls)),
    Column("p99", 6, lambda s: time(s.p99)),
    Column("busy", 5, lambda s: f"{s.busy:.0%}"),
)


def _sorted(queues: Sequence[Queue], sort: str) -> list[Queue]:
    if sort == "backlog":
        return sorted(queues, key=lambda q: (-(q.backlog or 0), -(q.in_flight or 0), q.name))
    if sort == "rate":
        return sorted(queues, key=lambda q: (-(q.stored or 0.0), q.name))
    return sorted(queues, key=lambda q: q.name)


def _worst_first(processes: Sequence[Process]) -> list[Process]:
    return sorted(processes, key=lambda p: p.well)


def _facts(view: View) -> Text:
    line = Text(" ")
    ahead = view.partitions_ahead
    facts = (
        (f"partitions ahead {number(ahead)}", ahead is not None and ahead < 1),
        (f"quarantine {number(view.letters)}", bool(view.letters)),
        (f"outbox {number(view.outbox)}", (view.outbox_age or 0.0) > _LATE),
        (f"evicted {rate(view.evictions)}", bool(view.evictions)),
        (f"spans lost {number(view.spans_dropped)}", bool(view.spans_dropped)),
    )
    for at, (words, odd) in enumerate(facts):
        line.append(" · " if at else "", "dim")
        line.append(f"! {words}" if odd else words, _ODD if odd else "")
    return line


def _keys(options: Options) -> Text:
    go = "go on" if options.paused else "pause"
    span = options.span * options.interval
    return Text(f" q quit   p {go}   s sorted by {options.sort}   z a block is {span:g} s", "dim")
