"""Rounds and the votes cast in them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from schemas.envelope import Data, Event
from schemas.fields import AnyInstant, DatedId, Fraction, Name, Text, TotalWeight, Weight


def _distinct(options: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(options)) != len(options):
        raise ValueError("must not name an option twice")
    return options


class RoundData(Data):
    round_id: DatedId
    """The round. A UUIDv7: its milliseconds are when the round was created."""


class VoteEventBase(Event):
    exchange: ClassVar[str] = "votes"
    entity: ClassVar[str] = "round_id"
    dated_ids: ClassVar[tuple[str, ...]] = ("round_id",)


class OpenedData(RoundData):
    options: Annotated[
        tuple[Name, ...],
        Field(
            min_length=2,
            max_length=100,
            examples=[["approve", "reject"]],
            json_schema_extra={"uniqueItems": True},
        ),
        AfterValidator(_distinct),
    ]
    """What can be voted for; of equal weights the option named first wins."""
    quorum: Annotated[Weight, Field(ge=1, examples=[3])]
    """The weight of counted votes at which the round is decided."""
    task_id: DatedId | None = None
    """The task that the vote is about."""
    closes_at: Annotated[AnyInstant | None, Field(examples=["2026-01-15T10:30:00Z"])] = None
    """Votes cast after this do not count."""


class CastData(RoundData):
    agent_id: UUID
    """Who votes. An agent has one vote in a round: its last word."""
    choice: Annotated[Name, Field(examples=["approve"])]
    """One of the round's options; a vote for anything else is kept and does not count."""
    weight: Annotated[Weight, Field(examples=[1.5])] = Decimal(1)
    """What the vote counts; as text where a double would round it."""
    confidence: Annotated[Fraction | None, Field(examples=[0.9])] = None
    """How sure the agent is; only kept and shown."""
    rationale: Annotated[Text | None, Field(examples=["the sources agree"])] = None
    """For people."""


class RetractedData(RoundData):
    agent_id: UUID
    """Whose vote is void."""


class ClosedData(RoundData):
    pass


class DecidedData(RoundData):
    choice: Annotated[Name, Field(examples=["approve"])]
    """The option that won."""
    tally: Annotated[dict[str, TotalWeight], Field(examples=[{"approve": 2.5, "reject": 1}])]
    """The weight of each option, zero included."""
    votes: Annotated[int, Field(ge=0, examples=[3])]
    """How many votes counted."""
    decided_at: Annotated[AnyInstant, Field(examples=["2026-01-15T09:30:00.250Z"])]
    """When it was decided; also the event's time."""


class RoundOpened(VoteEventBase):
    """A round of votes is open."""

    rank: ClassVar[int] = 0
    dated_ids: ClassVar[tuple[str, ...]] = ("round_id", "task_id")
    type: Literal["round.opened"] = "round.opened"
    data: OpenedData


class VoteCast(VoteEventBase):
    """An agent votes. Votes may come before the event that opens their round."""

    rank: ClassVar[int] = 1
    type: Literal["vote.cast"] = "vote.cast"
    data: CastData


class VoteRetracted(VoteEventBase):
    """An agent takes its vote back."""

    rank: ClassVar[int] = 2
    type: Literal["vote.retracted"] = "vote.retracted"
    data: RetractedData


class RoundClosed(VoteEventBase):
    """No vote cast after this counts."""

    rank: ClassVar[int] = 3
    type: Literal["round.closed"] = "round.closed"
    data: ClosedData


class RoundDecided(VoteEventBase):
    """A round has reached its quorum. Published by us, once for each round: a repeat has the same id and
    the same bytes. Decided by the votes stored at that moment, and never decided anew."""

    rank: ClassVar[int] = 4
    type: Literal["round.decided"] = "round.decided"
    data: DecidedData


VoteEvent = RoundOpened | VoteCast | VoteRetracted | RoundClosed
