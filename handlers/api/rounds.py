"""Rounds of votes with their tallies, and the votes."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.params import FromPath, QueryParameter

from handlers import problems, views
from handlers.api.parameters import (
    Answer,
    AnyRequest,
    Cursor,
    Limit,
    Number,
    Readable,
    RoundFields,
    Since,
    Until,
    VoteFields,
    instant,
    shows,
)
from handlers.http import answer, pick
from handlers.lists import RoundFilters, RoundState
from handlers.paging import PageRequest, choose

State = Annotated[RoundState | None, QueryParameter(name="state", description=str(RoundState.__doc__))]


@get(
    "/rounds",
    tags=["rounds"],
    responses=shows(views.RoundPage, problems.TOO_MANY_RECORDS, problems.BUSY),
)
async def list_rounds(
    request: AnyRequest,
    reads: Readable,
    round_state: State = None,
    created_from: Since = None,
    created_before: Until = None,
    fields: RoundFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    page: Number = None,
) -> Answer:
    """Rounds with their tallies, the newest first."""
    names = choose(fields, views.ROUND, views.ROUND)
    since, until = instant("created_from", created_from), instant("created_before", created_before)
    filters = RoundFilters(round_state, since, until)
    return answer(request, await reads.rounds(filters, PageRequest(limit, cursor, page), names))


@get("/rounds/{round_id:uuid}", tags=["rounds"], responses=shows(views.Round, problems.NOT_FOUND))
async def get_round(
    request: AnyRequest, reads: Readable, round_id: FromPath[UUID], fields: RoundFields = None
) -> Answer:
    """A round of votes with its tallies."""
    names = choose(fields, views.ROUND, ()) or None
    found = await reads.round(round_id)
    return answer(request, found, body=pick(found, names))


@get("/rounds/{round_id:uuid}/votes", tags=["rounds"], responses=shows(views.VotePage, problems.NOT_FOUND))
async def list_round_votes(
    request: AnyRequest,
    reads: Readable,
    round_id: FromPath[UUID],
    fields: VoteFields = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Answer:
    """The votes of a round, in the order of their agents' ids."""
    names = choose(fields, views.VOTE, views.VOTE)
    return answer(request, await reads.votes(round_id, PageRequest(limit, cursor), names))


ROUTES: Final = (list_rounds, get_round, list_round_votes)
