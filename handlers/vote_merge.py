"""Rounds and votes as values: what events say, how accounts are joined, what counts, who wins.

A vote is the latest word of an agent in a round (a cast vote or a retraction); a round's description is
its latest opening, its end the latest closing or the time it announced, whichever comes first. Joining is
commutative, associative and idempotent. docs/merge-table.md says the same column by column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from handlers.merging import earliest, newest
from schemas.votes import RoundClosed, RoundOpened, VoteCast, VoteEvent, VoteRetracted


class Opening(NamedTuple):
    stamp: bytes
    opened_at: datetime
    options: tuple[str, ...]
    quorum: Decimal
    task_id: UUID | None
    closes_at: datetime | None


class Closing(NamedTuple):
    stamp: bytes
    closed_at: datetime


class Decision(NamedTuple):
    """Final: made once, by the votes that were stored when the quorum was first reached."""

    choice: str
    decided_at: datetime
    votes: int = 0
    tally: Mapping[str, Decimal] | None = None
    """None in a row that was read."""


class Round(NamedTuple):
    """All that is known of a round; a placeholder if only its votes have been heard of."""

    opening: Opening | None = None
    closing: Closing | None = None
    decision: Decision | None = None

    @property
    def options(self) -> tuple[str, ...] | None:
        return self.opening.options if self.opening else None

    @property
    def ends_at(self) -> datetime | None:
        """Votes cast after this instant are late."""
        closes_at = self.opening.closes_at if self.opening else None
        return earliest(closes_at, self.closing.closed_at if self.closing else None)


UNKNOWN: Final = Round()


class Vote(NamedTuple):
    stamp: bytes
    cast_at: datetime
    retracted: bool
    choice: str | None
    weight: Decimal | None
    confidence: float | None = None
    """None in a row that was read, as is `rationale`."""
    rationale: str | None = None
    late: bool = False


class Count(NamedTuple):
    """A choice's part of a tally."""

    weight: Decimal
    votes: int


NOTHING: Final = Count(Decimal(0), 0)


@dataclass(slots=True)
class Said:
    """What a batch says about one round and its votes (by agent)."""

    round: Round = UNKNOWN
    votes: dict[UUID, Vote] = field(default_factory=dict)


def join_rounds(first: Round, second: Round) -> Round:
    """What both know together; a decision is the first's."""
    return Round(newest(first.opening, second.opening), newest(first.closing, second.closing), first.decision)


def fold(events: Iterable[VoteEvent]) -> dict[UUID, Said]:
    """What the events say about each round, in ascending order of the rounds' ids."""
    rounds: dict[UUID, Said] = {}
    for event in events:
        said = rounds.get(event.data.round_id)
        if said is None:
            said = rounds[event.data.round_id] = Said()
        # By `type`, not by class: isinstance() on a pydantic model that does not match is slow.
        if event.type == "vote.cast" or event.type == "vote.retracted":
            agent_id, vote = event.data.agent_id, _vote_of(event)
            said.votes[agent_id] = newest(said.votes.get(agent_id), vote) or vote
        elif event.type == "round.opened" or event.type == "round.closed":
            said.round = join_rounds(said.round, _round_of(event))
        else:
            assert_never(event)
    return dict(sorted(rounds.items(), key=lambda item: item[0].int))


def _vote_of(event: VoteCast | VoteRetracted) -> Vote:
    if event.type == "vote.retracted":
        return Vote(event.stamp, event.time, True, None, None)
    data = event.data
    return Vote(event.stamp, event.time, False, data.choice, data.weight, data.confidence, data.rationale)


def _round_of(event: RoundOpened | RoundClosed) -> Round:
    if event.type == "round.closed":
        return Round(closing=Closing(event.stamp, event.time))
    data = event.data
    return Round(Opening(event.stamp, event.time, data.options, data.quorum, data.task_id, data.closes_at))


def judged(vote: Vote, round_: Round) -> Vote:
    """The vote, late or not by the round's end."""
    ends_at = round_.ends_at
    late = ends_at is not None and vote.cast_at > ends_at
    return vote if vote.late == late else vote._replace(late=late)


def counts(vote: Vote, round_: Round) -> bool:
    """Whether a vote counts. As long as the options are not known, any choice does."""
    if vote.retracted or vote.late:
        return False
    return round_.opening is None or vote.choice in round_.opening.options


def agrees(vote: Vote | None, round_: Round) -> bool:
    """Whether a vote counts and is for what the round decided."""
    if vote is None or round_.decision is None:
        return False
    return vote.choice == round_.decision.choice and counts(vote, round_)


@dataclass(slots=True)
class Poll:
    """One round before and after a batch, with those of its votes that the batch may change: the votes that
    it names, or all of them when it changes what counts (see `recounts`)."""

    before: Round
    after: Round
    votes_before: Mapping[UUID, Vote]
    votes_after: Mapping[UUID, Vote]
    tally_before: Mapping[str, Count]
    tally_after: Mapping[str, Count]

    @property
    def is_changed(self) -> bool:
        return (
            self.before != self.after
            or self.votes_before != self.votes_after
            or self.tally_before != self.tally_after
        )

    @property
    def new_words(self) -> dict[UUID, Vote]:
        """Votes that are new, or replace what the agent had said."""
        return {
            agent_id: vote
            for agent_id, vote in self.votes_after.items()
            if (old := self.votes_before.get(agent_id)) is None or old.stamp != vote.stamp
        }

    @property
    def changed_lateness(self) -> dict[UUID, bool]:
        """Whether votes are late that were in time, or the other way round."""
        return {
            agent_id: vote.late
            for agent_id, vote in self.votes_after.items()
            if (old := self.votes_before.get(agent_id)) and old.stamp == vote.stamp and old.late != vote.late
        }


def recounts(before: Round, said: Round) -> bool:
    """Whether what is said of a round changes which of its stored votes count."""
    after = join_rounds(before, said)
    return (before.options, before.ends_at) != (after.options, after.ends_at)


def take_poll(said: Said, before: Round, stored: Mapping[UUID, Vote], tally: Mapping[str, Count]) -> Poll:
    """Merge what a batch says into what is stored of a round.

    Args:
        stored: the stored votes of the agents that `said` names; all of the round's if `recounts`.
        tally: all of the round's that is stored.
    """
    after = join_rounds(before, said.round)
    votes = dict(stored)
    for agent_id, vote in said.votes.items():
        votes[agent_id] = newest(stored.get(agent_id), vote) or vote
    votes = {agent_id: judged(vote, after) for agent_id, vote in votes.items()}
    sums = dict(tally)
    for vote in stored.values():
        if counts(vote, before):
            _add(sums, vote, -1)
    for vote in votes.values():
        if counts(vote, after):
            _add(sums, vote, 1)
    return Poll(before, after, stored, votes, tally, sums)


def _add(sums: dict[str, Count], vote: Vote, sign: int) -> None:
    if vote.choice is None or vote.weight is None:
        return
    weight, votes = sums.get(vote.choice, NOTHING)
    sums[vote.choice] = Count(weight + sign * vote.weight, votes + sign)


def decide(poll: Poll, now: datetime) -> Decision | None:
    """The decision that the votes make now, if they make one: once the counted weight reaches the quorum,
    the greatest tally wins, of equal ones the option that is named first."""
    opening = poll.after.opening
    if opening is None or poll.after.decision is not None:
        return None
    tally = {option: poll.tally_after.get(option, NOTHING) for option in opening.options}
    if sum(count.weight for count in tally.values()) < opening.quorum:
        return None
    choice = max(opening.options, key=lambda option: tally[option].weight)  # the first of equal ones
    votes = sum(count.votes for count in tally.values())
    return Decision(choice, now, votes, {option: count.weight for option, count in tally.items()})
