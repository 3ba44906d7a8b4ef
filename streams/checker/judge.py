"""Is an answer as new as it must be? Pure; docs/consistency.md says why a verdict holds.

An answer may be any state that the database has had since the reference reading. It is *stale* only if
that is impossible, and *consistent* only if each of its parts is one that we have read since then; where the
database changed more often than we looked, it may be *inconclusive*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from streams.checker.rows import Part, Reading
from streams.checker.subjects import PAGE, Kind

_BITS: Final = 32
_FIRST_NORMAL: Final = 3  # transactions below are PostgreSQL's own: older than any


class Outcome(StrEnum):
    CONSISTENT = "consistent"
    STALE = "stale"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`detail`: what is stale, or why nothing can be said."""

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said: its rows as JSON by name, in their order; no rows for 404."""

    parts: Mapping[str, Mapping[str, Any]]
    has_more: bool = False


def answer_of(kind: Kind, body: Any) -> Answer:
    """An answer's body, taken apart.

    Raises:
        KeyError, TypeError: it has another form.
    """
    match kind:
        case Kind.TASK | Kind.AGENT:
            return Answer({body["id"]: body})
        case Kind.ROUND:
            row = {name: value for name, value in body.items() if name != "tallies"}
            return Answer({"round": row, **{f"tally of {t['choice']}": t for t in body["tallies"]}})
        case Kind.VOTES:
            return Answer({row["agent_id"]: row for row in body["data"]}, body["pagination"]["has_more"])
        case Kind.AGENT_TASKS | Kind.USER_TASKS | Kind.AGENTS:
            return Answer({row["id"]: row for row in body["data"]}, body["pagination"]["has_more"])
        case Kind.LEADERBOARD:
            return Answer({row["agent_id"]: row for row in body["data"]})


def matches(answer: Answer, reading: Reading) -> bool:
    """Whether the answer is this reading, all of it. (A page may end early where it would be too large.)"""
    names = list(reading.parts)
    if answer.has_more:
        names = names[: len(answer.parts)]
        more = reading.has_more or len(names) < len(reading.parts)
    else:
        more = reading.has_more
    return (
        list(answer.parts) == names
        and answer.has_more == more
        and all(agree(row, reading.parts[name].fields) for name, row in answer.parts.items())
    )


def judge(
    kind: Kind,
    answer: Answer,
    reference: Reading,
    later: Sequence[Reading],
    versions: Mapping[str, int] | None = None,
) -> Verdict:
    """An answer that was asked for after all that `reference` shows had been announced for long enough.

    Args:
        later: readings since, in their order; the last one was taken after the answer had come.
        versions: of tasks that are answered and in none of the readings, taken after the answer, too.
    """
    readings = [reference, *later]
    if any(matches(answer, reading) for reading in readings):
        return Verdict(Outcome.CONSISTENT)
    last, doubt = readings[-1], ""
    for name, row in answer.parts.items():
        known = [reading.parts[name] for reading in readings if name in reading.parts]
        if kind is Kind.LEADERBOARD:
            row = {field: value for field, value in row.items() if field != "rank"}  # others' points make it
        if any(agree(row, part.fields) for part in known):
            continue
        then, now = reference.parts.get(name), last.parts.get(name)
        if then is not None and _order(row, then) > 0:
            continue  # by a clock of its own that never goes back it is newer
        if then is not None and (_order(row, then) < 0 or (now is not None and now.version == then.version)):
            return Verdict(Outcome.STALE, f"{name}: {difference(row, then)}")
        if not known and _unchanged(name, versions, reference):
            return Verdict(Outcome.STALE, f"{name}: is not in this list any more")
        doubt = doubt or f"{name} changed more often than it was read"
    for name in reference.parts.keys() - answer.parts.keys():
        then, now = reference.parts[name], last.parts.get(name)
        if now is not None and now.version == then.version and _has_room(kind, answer, then):
            return Verdict(Outcome.STALE, f"{name}: is missing")
        doubt = doubt or f"{name} came or went"
    if reference.whole is not None and reference.whole == last.whole:
        return Verdict(Outcome.STALE, "differs, though nothing has changed since")
    if not doubt and any(answer.parts.keys() == reading.parts.keys() for reading in readings):
        return Verdict(Outcome.CONSISTENT)
    return Verdict(Outcome.INCONCLUSIVE, doubt or "the list changed more often than it was read")


def _order(row: Mapping[str, Any], part: Part) -> int:
    """-1: the answered row is older than the part, 1: newer, 0: who knows."""
    if part.at is None or not isinstance(row.get("updated_at"), str):
        return 0
    moment = datetime.fromisoformat(row["updated_at"])
    return (moment > part.at) - (moment < part.at)


def _unchanged(name: str, versions: Mapping[str, int] | None, reference: Reading) -> bool:
    """Whether a row has its present form since before the reference was read."""
    version = (versions or {}).get(name)
    if version is None:
        return False
    span = 1 << _BITS
    behind = (reference.snapshot - version) % span  # transaction numbers go round
    return version < _FIRST_NORMAL or 0 < behind < span // 2


def _has_room(kind: Kind, answer: Answer, part: Part) -> bool:
    """Whether a row that is not answered would have had its place in the answer whatever others did."""
    if kind in (Kind.TASK, Kind.AGENT, Kind.ROUND):
        return True
    if kind is Kind.LEADERBOARD:
        return False  # others' points may have pushed it out meanwhile
    if len(answer.parts) < PAGE:
        return not answer.has_more
    last = list(answer.parts.values())[-1]
    if kind in (Kind.AGENT_TASKS, Kind.USER_TASKS):
        position = datetime.fromisoformat(last["created_at"]), last["id"]
        return bool((part.fields["created_at"], str(part.fields["id"])) > position)
    name = "agent_id" if kind is Kind.VOTES else "id"
    return str(part.fields[name]) < str(last[name])


def difference(row: Mapping[str, Any], part: Part) -> str:
    """The first field that differs, for a person; payloads and results by name only."""
    changed = ("updated_at",) if _order(row, part) < 0 else row
    for name in changed:
        value = row[name]
        if name in part.fields and not same(part.fields[name], value):
            if isinstance(value, dict | list) or isinstance(part.fields[name], dict | list):
                return f"another {name}"
            return f"{name} is {value}, must be {part.fields[name]} or newer"
    return "differs"


def agree(row: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Every answered field that we know of has this value."""
    return all(same(fields[name], value) for name, value in row.items() if name in fields)


def same(stored: Any, served: Any) -> bool:
    """A value from PostgreSQL and one from JSON."""
    if stored is None or served is None or isinstance(stored, bool) or isinstance(served, bool):
        return stored is served
    if isinstance(stored, datetime):
        return isinstance(served, str) and datetime.fromisoformat(served) == stored
    if isinstance(stored, UUID | date):
        return bool(str(stored) == served)
    if isinstance(stored, int | float | Decimal):
        if not isinstance(served, int | float):
            return False
        return bool(
            Decimal(str(stored)) == Decimal(str(served)) or math.isclose(stored, served, rel_tol=1e-12)
        )
    if isinstance(stored, Mapping):
        return (
            isinstance(served, Mapping)
            and stored.keys() == served.keys()
            and all(same(value, served[name]) for name, value in stored.items())
        )
    if isinstance(stored, list | tuple):
        return isinstance(served, list) and len(stored) == len(served) and all(map(same, stored, served))
    return bool(stored == served)
