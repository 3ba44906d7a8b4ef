"""Rounds and votes: the latest word of each agent, tallies kept in step, and a decision at the quorum.

A round's row is locked before anything about the round is read or written, so that all of it (votes,
tallies, decision) stands still meanwhile: two batches that bring half a quorum each come one after the
other, and the second sees the first's votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from handlers import scores, vote_store
from handlers.batches import WRITES
from handlers.vote_merge import UNKNOWN, Decision, Poll, Said, agrees, decide, fold, take_poll
from schemas import cache
from schemas.contract import Batch, Changes, Stream
from schemas.votes import DecidedData, RoundDecided, VoteEvent

if TYPE_CHECKING:
    from handlers.sql import Connection

stream = Stream("votes")

DECISIONS: Final = UUID("6f3c1a52-6a0e-5b8f-9c55-0f6f2c7b9d11")
"""Namespace of the ids of `round.decided`: uuid5(DECISIONS, str(round_id)), the same after every repeat."""


@stream.handler(
    exchange="votes",
    events=VoteEvent,
    batch=WRITES,
    publishes=RoundDecided,
)
async def record_votes(batch: Batch[VoteEvent], tx: Connection) -> Changes:
    """Merge the events into rounds and votes, keep the tallies, decide what has reached its quorum."""
    said = fold(batch.events)
    rounds = await vote_store.insert_or_read(tx, said)
    polls = await _polls(tx, said, rounds)
    decided = _decide(polls, datetime.now(UTC))
    await vote_store.write_votes(tx, polls)
    await vote_store.write_rounds(tx, polls, rounds, decided)
    deltas = _score_changes(polls)
    await _add_decided(tx, deltas, decided)
    scored = await scores.apply(tx, deltas)
    return scores.with_scores(_changes(polls, decided), scored)


async def _polls(
    tx: Connection, said: Mapping[UUID, Said], rounds: Mapping[UUID, vote_store.Stored]
) -> dict[UUID, Poll]:
    votes = await vote_store.stored_votes(tx, said, rounds)
    unheard: vote_store.Stored = (UNKNOWN, {})
    polls = {}
    for round_id, about in said.items():
        before, tally = rounds.get(round_id, unheard)
        polls[round_id] = take_poll(about, before, votes[round_id], tally)
    return polls


def _decide(polls: Mapping[UUID, Poll], now: datetime) -> dict[UUID, Decision]:
    """The decisions that this batch makes; they are entered in the polls, too."""
    decided = {}
    for round_id, poll in polls.items():
        decision = decide(poll, now)
        if decision is not None:
            decided[round_id] = decision
            poll.after = poll.after._replace(decision=decision)
    return decided


def _score_changes(polls: Mapping[UUID, Poll]) -> scores.Deltas:
    """The differences in rounds that were decided before this batch."""
    deltas = scores.Deltas()
    for poll in polls.values():
        decision = poll.before.decision
        if decision is None:
            continue
        for agent_id, vote in poll.votes_after.items():
            worth = scores.of_vote(agent_id, decision.decided_at)
            had = agrees(poll.votes_before.get(agent_id), poll.before)
            deltas.move(worth if had else None, worth if agrees(vote, poll.after) else None)
    return deltas


async def _add_decided(tx: Connection, deltas: scores.Deltas, decided: Mapping[UUID, Decision]) -> None:
    """In a round that this batch decided, all votes begin to contribute, those stored earlier included."""
    if not decided:
        return
    for round_id, agent_id in await vote_store.agreeing(tx, decided):
        deltas.move(None, scores.of_vote(agent_id, decided[round_id].decided_at))


def _changes(polls: Mapping[UUID, Poll], decided: Mapping[UUID, Decision]) -> Changes:
    """The caches of the rounds, and of agents whose votes are others now."""
    keys, tags = set(), set()
    for round_id, poll in polls.items():
        if poll.is_changed:
            keys.add(cache.round_key(round_id))
            tags.add(cache.round_tag(round_id))
        for agent_id in poll.new_words.keys() | poll.changed_lateness.keys():
            keys.add(cache.agent_stats_key(agent_id))
            tags.add(cache.agent_tag(agent_id))
    return Changes(keys, tags, [_announcement(round_id, decision) for round_id, decision in decided.items()])


def _announcement(round_id: UUID, decision: Decision) -> RoundDecided:
    return RoundDecided(
        specversion="1.0",
        id=str(uuid5(DECISIONS, str(round_id))),
        source="agent-streams",
        time=decision.decided_at,
        data=DecidedData(
            round_id=round_id,
            choice=decision.choice,
            tally=dict(decision.tally or {}),
            votes=decision.votes,
            decided_at=decision.decided_at,
        ),
    )
