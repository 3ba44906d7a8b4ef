"""Expected rows against stored rows: every difference, named by table, key and column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from streams.demo.expected import Decision, Row, Table, created_at, instant
from streams.demo.ledger import Key, Sent
from streams.demo.stored import Recorded, Rows


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be. `what`: the kind of row; `key`: which; `detail`: how."""

    what: str
    key: str
    detail: str


@dataclass(slots=True)
class Check:
    """One kind of thing that was compared, how many of them, and what did not agree."""

    what: str
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    hits: int = 0
    """How many of them were served from a cache."""

    def wrong(self, key: object, detail: str) -> None:
        self.differences.append(Difference(self.what, _text(key), detail))


def same(expected: Any, found: Any) -> bool:
    """Equality that knows what JSON and PostgreSQL do to numbers: 1 == 1.0 == Decimal("1.000000")."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=1e-12)
    if isinstance(expected, int | float | Decimal) and isinstance(found, int | float | Decimal):
        return Decimal(str(expected)) == Decimal(str(found))
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return expected.keys() == found.keys() and all(same(expected[k], found[k]) for k in expected)
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        return len(expected) == len(found) and all(map(same, expected, found))
    return bool(expected == found)


def compare_table(what: str, expected: Table, stored: Rows) -> Check:
    """Every expected row once, with every expected column, and no other row."""
    check = Check(what, compared=len(expected))
    times = Counter(key for key, _ in stored)
    for key, count in times.items():
        if count > 1:
            check.wrong(key, f"is stored {count} times")
        if key not in expected:
            check.wrong(key, "is stored, but no event that was sent asks for it")
    found = dict(stored)
    for key, row in expected.items():
        if key not in found:
            check.wrong(key, "is missing")
            continue
        for column, value in row.items():
            if not same(value, found[key].get(column)):
                check.wrong(key, f"{column} should be {_text(value)}, is {_text(found[key].get(column))}")
    return check


def compare_history(
    good: Mapping[Key, Sent], bad: Mapping[Key, Sent], stored: list[tuple[Key, Recorded]]
) -> Check:
    """Every good event once, as it was sent, and no bad one."""
    check = Check("events in the history", compared=len(good))
    for key, count in Counter(key for key, _ in stored).items():
        if count > 1:
            check.wrong(key, f"is recorded {count} times")
        if key in bad:
            check.wrong(key, "was to be refused, but is recorded")
        elif key not in good:
            check.wrong(key, "is recorded, but was never sent")
    found = dict(stored)
    for key, sent in good.items():
        row = found.get(key)
        if row is None:
            check.wrong(key, "is missing")
            continue
        for column, value in _as_recorded(sent).items():
            if not same(value, getattr(row, column)):
                check.wrong(key, f"{column} should be {_text(value)}, is {_text(getattr(row, column))}")
        for name, value in sent.data.items():  # defaults may have been filled in, nothing changed
            if not _same_json(value, row.data.get(name)):
                check.wrong(key, f"data.{name} should be {_text(value)}, is {_text(row.data.get(name))}")
    return check


def _as_recorded(sent: Sent) -> Row:
    family = sent.type.partition(".")[0]
    entity = {"task": "task_id", "round": "round_id", "vote": "round_id", "agent": "agent_id"}[family]
    return {"type": sent.type, "time": instant(sent.time), "entity_id": UUID(sent.data[entity])}


def _same_json(sent: Any, recorded: Any) -> bool:
    """A weight may be recorded as text, an instant with another offset or precision."""
    if isinstance(sent, int | float) and not isinstance(sent, bool) and isinstance(recorded, str):
        return Decimal(str(sent)) == Decimal(recorded)
    if isinstance(sent, str) and isinstance(recorded, str) and sent != recorded:
        try:
            return instant(sent) == instant(recorded)
        except ValueError:
            return False
    return same(sent, recorded)


def compare_decisions(rounds: Table, tallies: Table, decided: Mapping[UUID, Decision]) -> Check:
    """A decision names an option whose tally reached the quorum; none is missing where the votes that
    count at rest reach it."""
    check = Check("decisions", compared=len(rounds))
    for (round_id,), about in rounds.items():
        decision, options, quorum = decided.get(round_id), about["options"], about["quorum"]
        if quorum is None:
            if decision is not None:
                check.wrong(round_id, "is decided, but was never opened")
            continue
        weights = {choice: row["weight"] for (owner, choice), row in tallies.items() if owner == round_id}
        if decision is None:
            if sum(weights.values()) >= quorum:
                check.wrong(round_id, f"is undecided, but its votes reach the quorum of {quorum}")
            continue
        _judge(check, round_id, decision, options, quorum)
    return check


def _judge(check: Check, round_id: UUID, decision: Decision, options: list[str], quorum: Decimal) -> None:
    if decision.choice not in options:
        check.wrong(round_id, f"is decided for {decision.choice!r}, which is no option")
    if sum(decision.tally.values()) < quorum:
        check.wrong(round_id, f"is decided below its quorum of {quorum}")
    best = max(decision.tally.values(), default=Decimal(0))
    if decision.tally.get(decision.choice, Decimal(0)) < best:
        check.wrong(round_id, f"is decided for {decision.choice!r}, which did not have the most votes")
    if decision.decided_at is None or decision.decided_at < created_at(round_id):
        check.wrong(round_id, f"is decided at {decision.decided_at}, which is no time in its life")


def compare_announcements(
    decided: Mapping[UUID, Decision], heard: list[dict[str, Any]], rounds: Table
) -> Check:
    """Exactly one `round.decided` for each decision, and it says what is stored. The same event sent twice
    (one id) is a repeat after a failure and no second decision."""
    check = Check("round.decided events", compared=len(decided))
    ours = [event for event in heard if (UUID(event["round_id"]),) in rounds]
    ids: dict[UUID, set[str]] = {}
    for event in ours:
        ids.setdefault(UUID(event["round_id"]), set()).add(event["id"])
    for round_id, events in ids.items():
        if len(events) > 1:
            check.wrong(round_id, f"{len(events)} different round.decided were published")
        if round_id not in decided:
            check.wrong(round_id, "round.decided was published, but no decision is stored")
    for round_id, decision in decided.items():
        said = [event for event in ours if UUID(event["round_id"]) == round_id]
        if not said:
            check.wrong(round_id, "no round.decided was published")
        for event in said:
            tally = {choice: Decimal(str(weight)) for choice, weight in event["tally"].items()}
            stored = (decision.choice, decision.votes, decision.tally)
            if (event["choice"], event["votes"], tally) != stored:
                check.wrong(round_id, f"round.decided says {event['choice']!r}, stored: {decision.choice!r}")
    return check


def compare_reputation(agents: Rows, scores: Table) -> Check:
    """`agents.reputation_score` is the sum of the agent's points over all days."""
    check = Check("reputations", compared=len(agents))
    for (agent_id,), row in agents:
        points = sum(score["points"] for (owner, _), score in scores.items() if owner == agent_id)
        if row["reputation_score"] != points:
            check.wrong(agent_id, f"reputation_score should be {points}, is {row['reputation_score']}")
    return check


def compare_letters(bad: Mapping[Key, Sent], letters: Mapping[str, list[str]]) -> Check:
    """Every bad event lies in quarantine once, with the expected reason. `letters`: reasons by event id."""
    check = Check("refused events in quarantine", compared=len(bad))
    for key, sent in bad.items():
        reasons = letters.get(sent.id, [])
        if not reasons:
            check.wrong(key, "is not in quarantine")
        elif set(reasons) != {str(sent.refusal)}:
            check.wrong(key, f"should be refused as {sent.refusal}, is {', '.join(sorted(set(reasons)))}")
    return check


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    if isinstance(value, str | UUID | int | float | Decimal):
        return str(value)
    return repr(value)
