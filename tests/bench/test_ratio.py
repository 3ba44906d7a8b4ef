"""A guard against losing what batches are for: the distance to a plain FastStream handler on the same work.

The bounds are far below what a quiet machine shows, and are ratios within a run: a slow machine passes, too.
CPU per event hardly depends on what else the machine is doing; events per second do, more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.bench.baselines import plain
from streams.bench.drain import drain
from streams.bench.options import Options
from streams.bench.place import place_on
from streams.settings import Settings
from streams.stack import StackUrls
from tests.conftest import Servers

EVENTS = 4_000
PLAIN_EVENTS = 300


@pytest.mark.timeout(180)
async def test_batches_stay_far_ahead_of_a_plain_handler(servers: Servers, tmp_path: Path) -> None:
    urls = StackUrls(servers.amqp, servers.database, servers.redis, servers.management)
    async with place_on(urls, Settings.load(), {}, tmp_path) as place:
        ours = await drain(place, Options(EVENTS))
        theirs = await plain(place, Options(PLAIN_EVENTS))
    assert [what for what, holds in (ours.checks | theirs.checks).items() if not holds] == []
    cpu = theirs.figures["cpu_us.plain"] / ours.cpu_us["worker"]
    speed = ours.events_per_second / theirs.figures["events_per_second"]
    print(f"plain to ours: {cpu:.1f} × the CPU per event; ours {speed:.1f} × as fast")
    assert cpu > 3, f"a plain handler takes only {cpu:.1f} × the CPU of the worker"
    assert speed > 2, f"the worker is only {speed:.1f} × as fast as a plain handler"
