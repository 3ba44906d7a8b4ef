"""What people, programs and psql are shown of an examination."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.text import Text

from streams.doctor.model import Result, Section, Verdict
from streams.watch import escaped

EXIT: Final = {Verdict.CRITICAL: 2, Verdict.WARNING: 1, Verdict.UNKNOWN: 0, Verdict.OK: 0}

_TITLES: Final = {
    Section.POSTGRES: "PostgreSQL",
    Section.REDIS: "Redis",
    Section.RABBITMQ: "RabbitMQ",
    Section.SERVICE: "Service",
    Section.HOST: "This machine",
}
# A word and a sign each: the colours only help.
_SIGNS: Final = {
    Verdict.CRITICAL: ("✗ CRITICAL", "bold red"),
    Verdict.WARNING: ("! warning ", "yellow"),
    Verdict.UNKNOWN: ("? unknown ", "dim"),
    Verdict.OK: ("✓ ok      ", "green"),
}
_INDENT: Final = 11


def exit_status(results: Sequence[Result]) -> int:
    """0 nothing wrong, 1 warnings, 2 something critical. What is unknown counts as nothing wrong."""
    return max((EXIT[result.finding.verdict] for result in results), default=0)


def as_text(results: Sequence[Result], *, width: int = 80, brief: bool = False) -> Text:
    """A table for people, by section, the worst first; with `brief` only what is not OK."""
    text = Text()
    for section in Section:
        own = sorted((r for r in results if r.check.section is section), key=lambda r: r.finding.verdict.rank)
        if not own:
            continue
        text.append(f"{_TITLES[section]}", "bold")
        text.append(f"  {_counts(own)}\n")
        for result in own:
            if not brief or result.finding.verdict is not Verdict.OK:
                _append(text, result, width)
        text.append("\n")
    text.append(f"{len(results)} checks: {_counts(results)}\n", "bold")
    return text


def _counts(results: Sequence[Result]) -> str:
    shown = []
    for verdict in Verdict:
        count = sum(result.finding.verdict is verdict for result in results)
        if count:
            plural = "s" if verdict is Verdict.WARNING and count > 1 else ""
            shown.append(f"{count} {verdict}{plural}")
    return ", ".join(shown)


def _append(text: Text, result: Result, width: int) -> None:
    sign, style = _SIGNS[result.finding.verdict]
    name = result.check.name.partition(".")[2]
    measured = escaped(result.finding.measured)
    text.append(f"{sign} ", style)
    text.append(name)
    room = width - _INDENT - len(name) - 2
    if result.finding.verdict in (Verdict.OK, Verdict.UNKNOWN) and not result.finding.remedy:
        if len(name) + 2 + len(measured) <= width - _INDENT:
            text.append(f"{measured.rjust(width - _INDENT - len(name))}\n")
        else:
            text.append("\n")
            _paragraph(text, measured, width, "")
        return
    target = f"target: {result.check.target}"
    text.append(f"{target.rjust(room + 2)}\n" if len(target) <= room else "\n", "dim")
    if len(target) > room:
        _paragraph(text, target, width, "dim")
    _paragraph(text, measured, width, style)
    if remedy := result.finding.remedy or result.check.remedy:
        _paragraph(text, f"→ {escaped(remedy)}", width, "")
        _paragraph(text, f"  {result.check.page}", width, "dim")


def _paragraph(text: Text, words: str, width: int, style: str) -> None:
    for line in textwrap.wrap(
        words, max(20, width - _INDENT), subsequent_indent="  " if words[0] in "→ " else ""
    ):
        text.append(f"{' ' * _INDENT}{line}\n", style)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """For programs: the worst verdict, the exit status, and each check."""
    worst = min((r.finding.verdict for r in results), key=lambda v: (-EXIT[v], v.rank), default=Verdict.OK)
    return {
        "verdict": str(Verdict.OK if not EXIT[worst] else worst),
        "status": exit_status(results),
        "counts": {str(v): sum(r.finding.verdict is v for r in results) for v in Verdict},
        "checks": [
            {
                "id": result.check.name,
                "section": str(result.check.section),
                "verdict": str(result.finding.verdict),
                "measured": result.finding.measured,
                "target": result.check.target,
                "remedy": ""
                if result.finding.verdict is Verdict.OK
                else result.finding.remedy or result.check.remedy,
                "sql": list(result.finding.sql),
                "page": result.check.page,
                "guide": result.check.guide,
                "seconds": round(result.seconds, 4),
            }
            for result in results
        ],
    }


def as_sql(results: Sequence[Result]) -> Iterator[str]:
    """A file for psql: what would repair what was found. What cannot be undone stands there as a comment."""
    yield "-- Printed by `streams doctor --fix-sql`, which ran none of it. Read it, then: psql --file ..."
    yield "-- CONCURRENTLY and ALTER SYSTEM do not run inside a transaction."
    for result in results:
        if result.finding.verdict is not Verdict.OK and result.finding.sql:
            yield ""
            yield f"-- {result.check.name}: {escaped(result.finding.measured)}"
            yield from result.finding.sql
