"""Rounds, votes and tallies in PostgreSQL: how they are locked, read and written.

A round's row is locked before anything about the round is read, so that all of it (votes, tallies,
decision) stands still until commit, and needs no locks of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from handlers.sql import as_json, columns
from handlers.vote_merge import Closing, Count, Decision, Opening, Poll, Round, Said, Vote, recounts
from schemas.fields import dated, json_number

if TYPE_CHECKING:
    import asyncpg

    from handlers.sql import Connection

# Inserts the rounds that are new, placeholders included, and returns their ids; locks the others.
INSERT_OR_LOCK: Final = """
INSERT INTO rounds (id, created_at, opened_stamp, opened_at, options, quorum, task_id, closes_at,
    closed_stamp, closed_at)
SELECT id, created_at, opened_stamp, opened_at, options, quorum, task_id, closes_at, closed_stamp, closed_at
FROM unnest($1::round_change[])
ORDER BY id, created_at
ON CONFLICT (id, created_at) DO UPDATE SET opened_at = rounds.opened_at WHERE false
RETURNING id
"""

# The locked rounds as they are, each with its whole tally.
SELECT_LOCKED: Final = """
SELECT r.id, r.opened_stamp, r.opened_at, r.options, r.quorum, r.task_id, r.closes_at,
    r.closed_stamp, r.closed_at, r.decided_choice, r.decided_at, t.choices, t.weights, t.votes
FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, created_at)
JOIN rounds r ON r.id = n.id AND r.created_at = n.created_at
CROSS JOIN LATERAL (
    SELECT array_agg(choice) AS choices, array_agg(weight) AS weights, array_agg(votes) AS votes
    FROM round_tallies WHERE round_id = r.id AND created_at = r.created_at
) AS t
"""

# Votes by round and agent. Rounds are locked, hence their votes stand still.
SELECT_VOTES: Final = """
SELECT v.round_id, v.agent_id, v.stamp, v.cast_at, v.retracted, v.choice, v.weight, v.late
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS n (round_id, agent_id, created_at)
JOIN votes v ON v.round_id = n.round_id AND v.agent_id = n.agent_id AND v.created_at = n.created_at
"""

# All votes of rounds.
SELECT_ALL_VOTES: Final = """
SELECT v.round_id, v.agent_id, v.stamp, v.cast_at, v.retracted, v.choice, v.weight, v.late
FROM unnest($1::uuid[], $2::timestamptz[]) AS n (round_id, created_at)
JOIN votes v ON v.round_id = n.round_id AND v.created_at = n.created_at
"""

# Stores votes, each in the place of what its agent had said before.
UPSERT_VOTES: Final = """
INSERT INTO votes (round_id, agent_id, created_at, stamp, cast_at, retracted, choice, weight, confidence,
    rationale, late)
SELECT round_id, agent_id, created_at, stamp, cast_at, retracted, choice, weight, confidence, rationale, late
FROM unnest($1::vote_change[])
ORDER BY round_id, agent_id
ON CONFLICT (round_id, agent_id, created_at) DO UPDATE SET
    stamp = excluded.stamp, cast_at = excluded.cast_at, retracted = excluded.retracted,
    choice = excluded.choice, weight = excluded.weight, confidence = excluded.confidence,
    rationale = excluded.rationale, late = excluded.late
"""

# Votes that became late, or were in time after all, since their round's end moved.
UPDATE_LATENESS: Final = """
UPDATE votes v SET late = n.late
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bool[]) AS n (round_id, agent_id, created_at, late)
WHERE v.round_id = n.round_id AND v.agent_id = n.agent_id AND v.created_at = n.created_at
"""

# Stores counts as they are now. A choice that nobody stands by any more stays, with zero.
UPSERT_TALLIES: Final = """
INSERT INTO round_tallies (round_id, choice, created_at, weight, votes)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::numeric[], $5::integer[])
    AS n (round_id, choice, created_at, weight, votes)
ORDER BY n.round_id, n.choice COLLATE "C"
ON CONFLICT (round_id, choice, created_at) DO UPDATE SET weight = excluded.weight, votes = excluded.votes
"""

# Writes what changed about rounds; a decision that is there stays.
UPDATE_ROUNDS: Final = """
UPDATE rounds r SET
    opened_stamp = n.opened_stamp, opened_at = n.opened_at, options = n.options, quorum = n.quorum,
    task_id = n.task_id, closes_at = n.closes_at, closed_stamp = n.closed_stamp, closed_at = n.closed_at,
    decided_choice = COALESCE(r.decided_choice, n.decided_choice),
    decided_at = COALESCE(r.decided_at, n.decided_at),
    decided_votes = COALESCE(r.decided_votes, n.decided_votes),
    decided_tally = COALESCE(r.decided_tally, n.decided_tally)
FROM unnest($1::round_change[]) AS n
WHERE r.id = n.id AND r.created_at = n.created_at
"""

# Who voted for what was decided, of the votes that count.
SELECT_AGREEING: Final = """
SELECT v.round_id, v.agent_id
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS n (round_id, created_at, choice)
JOIN votes v ON v.round_id = n.round_id AND v.created_at = n.created_at
WHERE v.choice = n.choice AND NOT v.retracted AND NOT v.late
"""

Stored = tuple[Round, dict[str, Count]]
"""A round as it is stored, and its tally."""


async def insert_or_read(tx: Connection, said: Mapping[UUID, Said]) -> dict[UUID, Stored]:
    """Store the rounds that are new; the others, locked, as they were."""
    rows = [_row(round_id, about.round) for round_id, about in said.items()]
    new = {row["id"] for row in await tx.fetch(INSERT_OR_LOCK, rows)}
    known = [row[:2] for row in rows if row[0] not in new]
    if not known:
        return {}
    return {row["id"]: _read(row) for row in await tx.fetch(SELECT_LOCKED, *columns(known))}


async def stored_votes(
    tx: Connection, said: Mapping[UUID, Said], rounds: Mapping[UUID, Stored]
) -> defaultdict[UUID, dict[UUID, Vote]]:
    """By round and agent: the votes that the batch may change."""
    whole, single = [], []
    for round_id in rounds:
        created_at = dated(round_id)
        if recounts(rounds[round_id][0], said[round_id].round):
            whole.append((round_id, created_at))
        else:
            single += [(round_id, agent_id, created_at) for agent_id in said[round_id].votes]
    found = await tx.fetch(SELECT_VOTES, *columns(single)) if single else []
    if whole:
        found += await tx.fetch(SELECT_ALL_VOTES, *columns(whole))
    votes: defaultdict[UUID, dict[UUID, Vote]] = defaultdict(dict)
    for round_id, agent_id, stamp, cast_at, retracted, choice, weight, late in found:
        votes[round_id][agent_id] = Vote(stamp, cast_at, retracted, choice, weight, late=late)
    return votes


async def write_votes(tx: Connection, polls: Mapping[UUID, Poll]) -> None:
    words: list[tuple[Any, ...]] = []
    lateness: list[tuple[Any, ...]] = []
    tallies: list[tuple[Any, ...]] = []
    for round_id, poll in polls.items():
        created_at = dated(round_id)
        words += [(round_id, agent_id, created_at, *vote) for agent_id, vote in poll.new_words.items()]
        lateness += [
            (round_id, agent_id, created_at, late) for agent_id, late in poll.changed_lateness.items()
        ]
        tallies += [
            (round_id, choice, created_at, *count)
            for choice, count in poll.tally_after.items()
            if count != poll.tally_before.get(choice)
        ]
    if words:
        await tx.execute(UPSERT_VOTES, words)
    if lateness:
        await tx.execute(UPDATE_LATENESS, *columns(lateness))
    if tallies:
        await tx.execute(UPSERT_TALLIES, *columns(tallies))


async def write_rounds(
    tx: Connection,
    polls: Mapping[UUID, Poll],
    rounds: Mapping[UUID, Stored],
    decided: Mapping[UUID, Decision],
) -> None:
    """What is not stored yet: of rounds that were just inserted, only the decision."""
    rows = [
        _row(round_id, poll.after, decided.get(round_id))
        for round_id, poll in polls.items()
        if round_id in decided or (round_id in rounds and poll.before != poll.after)
    ]
    if rows:
        await tx.execute(UPDATE_ROUNDS, rows)


def _row(round_id: UUID, round_: Round, decision: Decision | None = None) -> tuple[Any, ...]:
    """A round_change."""
    opening, closing = round_.opening, round_.closing
    return (
        round_id,
        dated(round_id),
        *(opening or (None,) * 6),
        *(closing or (None,) * 2),
        *(_decision_row(decision) if decision else (None,) * 4),
    )


def _decision_row(decision: Decision) -> tuple[Any, ...]:
    tally = {option: json_number(weight) for option, weight in (decision.tally or {}).items()}
    return decision.choice, decision.decided_at, decision.votes, as_json(tally)


def _read(row: asyncpg.Record) -> Stored:
    """A row of SELECT_LOCKED."""
    (
        _, opened_stamp, opened_at, options, quorum, task_id, closes_at, closed_stamp, closed_at,
        decided_choice, decided_at, choices, weights, votes,
    ) = row  # fmt: skip
    round_ = Round(
        Opening(opened_stamp, opened_at, tuple(options), quorum, task_id, closes_at)
        if opened_stamp
        else None,
        Closing(closed_stamp, closed_at) if closed_stamp else None,
        Decision(decided_choice, decided_at) if decided_at else None,
    )
    return round_, {
        choice: Count(weight, count)
        for choice, weight, count in zip(choices or (), weights or (), votes or (), strict=True)
    }


async def agreeing(tx: Connection, decided: Mapping[UUID, Decision]) -> list[tuple[UUID, UUID]]:
    """(round, agent) of the votes that count and are for what was decided."""
    rows = [(round_id, dated(round_id), decision.choice) for round_id, decision in decided.items()]
    return [(row["round_id"], row["agent_id"]) for row in await tx.fetch(SELECT_AGREEING, *columns(rows))]
