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


class VoteEventBase(Event):
    exchange: ClassVar[str] = "votes"
    entity: ClassVar[str] = "round_id"
    dated_ids: ClassVar[tuple[str, ...]] = ("round_id",)


class OpenedData(RoundData):
    options: Annotated[tuple[Name, ...], Field(min_length=2, max_length=100), AfterValidator(_distinct)]
    quorum: Annotated[Weight, Field(ge=1)]
    task_id: DatedId | None = None
    closes_at: AnyInstant | None = None


class CastData(RoundData):
    agent_id: UUID
    choice: Name
    weight: Weight = Decimal(1)
    confidence: Fraction | None = None
    rationale: Text | None = None


class RetractedData(RoundData):
    agent_id: UUID


class ClosedData(RoundData):
    pass


class DecidedData(RoundData):
    choice: Name
    tally: dict[str, TotalWeight]
    """The weight of each option, zero included."""
    votes: Annotated[int, Field(ge=0)]
    decided_at: AnyInstant


class RoundOpened(VoteEventBase):
    rank: ClassVar[int] = 0
    dated_ids: ClassVar[tuple[str, ...]] = ("round_id", "task_id")
    type: Literal["round.opened"] = "round.opened"
    data: OpenedData


class VoteCast(VoteEventBase):
    rank: ClassVar[int] = 1
    type: Literal["vote.cast"] = "vote.cast"
    data: CastData


class VoteRetracted(VoteEventBase):
    rank: ClassVar[int] = 2
    type: Literal["vote.retracted"] = "vote.retracted"
    data: RetractedData


class RoundClosed(VoteEventBase):
    rank: ClassVar[int] = 3
    type: Literal["round.closed"] = "round.closed"
    data: ClosedData


class RoundDecided(VoteEventBase):
    """Published by us, once for each round."""

    rank: ClassVar[int] = 4
    type: Literal["round.decided"] = "round.decided"
    data: DecidedData


VoteEvent = RoundOpened | VoteCast | VoteRetracted | RoundClosed
