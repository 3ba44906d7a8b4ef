"""Leaderboards by period."""

from __future__ import annotations

from typing import Final

from litestar import get
from litestar.params import FromPath

from handlers import problems, views
from handlers.api.parameters import Answer, AnyRequest, RankFields, Readable, shows
from handlers.http import answer, pick_each
from handlers.paging import choose
from schemas.cache import Period


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


ROUTES: Final = (get_leaderboard,)
