"""Leaderboards by period."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.params import FromPath, QueryParameter

from handlers import problems, views
from handlers.api.parameters import Answer, AnyRequest, RankFields, Readable, shows
from handlers.http import answer, pick_each
from handlers.paging import choose
from schemas.cache import Period

Around = Annotated[int, QueryParameter(ge=0, le=50, description="Places before and after the agent's.")]


@get(
    "/leaderboards/{period:str}",
    tags=["leaderboards"],
    responses=shows(views.Leaderboard, problems.NOT_FOUND, problems.BUSY),
)
async def get_leaderboard(
    request: AnyRequest, reads: Readable, period: FromPath[Period], fields: RankFields = None
) -> Answer:
    """The best hundred of today, of this week (from Monday), of this month, or of all time; UTC.

    `fields` picks from the ranks in `data`.
    """
    names = choose(fields, views.RANK, ()) or None
    found = await reads.leaderboard(period)
    return answer(request, found, body=pick_each(found, "data", names))


@get(
    "/leaderboards/{period:str}/agents/{agent_id:uuid}",
    tags=["leaderboards"],
    responses=shows(views.Neighbours, problems.NOT_FOUND, problems.BUSY),
)
async def get_neighbours(
    request: AnyRequest,
    reads: Readable,
    period: FromPath[Period],
    agent_id: FromPath[UUID],
    around: Around = 5,
    fields: RankFields = None,
) -> Answer:
    """An agent's rank, with the agents before and after it.

    `fields` picks from the ranks in `data`.
    """
    names = choose(fields, views.RANK, ()) or None
    found = await reads.neighbours(period, agent_id, around)
    return answer(request, found, body=pick_each(found, "data", names))


ROUTES: Final = (get_leaderboard, get_neighbours)
