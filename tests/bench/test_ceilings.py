"""What the service is measured against is the same work: the rows of its own run, in as many transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.bench.ceilings import ceilings
from streams.bench.drain import drain
from streams.bench.options import Options, Tale
from streams.bench.place import Place, place_on
from streams.settings import Settings
from streams.stack import StackUrls
from tests.conftest import Servers

EVENTS = 7_000
_TRANSACTIONS = """
SELECT count(DISTINCT xmin::text) AS history, (SELECT count(DISTINCT xmin::text) FROM tasks) AS tasks
FROM event_history
"""


@pytest.mark.timeout(180)
async def test_copy_in_batches_stores_the_runs_rows_in_as_many_transactions(
    servers: Servers, tmp_path: Path
) -> None:
    urls = StackUrls(servers.amqp, servers.database, servers.redis, servers.management)
    async with place_on(urls, Settings.load(), {}, tmp_path) as place:
        run = await drain(place, Options(EVENTS, 100, story=Tale.CREATED))
        assert [what for what, holds in run.checks.items() if not holds] == []
        written = {name: run.rows.get(name) for name in ("tasks", "event_history", "event_claims")}
        assert written == dict.fromkeys(written, EVENTS)
        batches = await place.database.fetchval("SELECT count(DISTINCT batch_id) FROM event_history")
        ids = await told(place)
        found = await ceilings(place, EVENTS, repeat=1)
        assert all(finding.ok for finding in found.values())
        assert await told(place) == ids
        transactions = await place.database.fetchrow(_TRANSACTIONS)
    assert batches > 1
    assert transactions == (batches, batches)
    assert found["ceiling"].figures["events_per_second"] > 0


async def told(place: Place) -> list[str]:
    """The history's events in the order in which they lie in the table."""
    return [
        row[0]
        for row in await place.database.fetch("SELECT event_id FROM event_history ORDER BY tableoid, ctid")
    ]
