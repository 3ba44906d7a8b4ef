"""The fault suite's short form: a few of its scenarios, small. `make fault` runs all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fault.harness import table
from tests.fault.harness.counters import Row
from tests.fault.harness.fleet import Nursery, nursery
from tests.fault.harness.place import Place, private_place
from tests.fault.harness.suite import CLOSER, SCENARIOS
from tests.fault.harness.trial import Stage

SCALE = 0.02


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    """Servers that these tests may stop and kill: nobody else uses them."""
    async with private_place() as servers:
        yield servers


@pytest.fixture(scope="module")
async def forks() -> AsyncIterator[Nursery]:
    async with nursery() as here:
        yield here


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        "kill-at-points",
        "broker-restart",
        "broker-restart-untapped",
        "postgres-stop",
        "unknown-commit",
        "redis-kill",
        "disk-full",
    ],
)
async def test_scenario(name: str, place: Place, forks: Nursery) -> None:
    rows: list[Row] = []
    await (SCENARIOS | CLOSER)[name](Stage(place, forks, SCALE, rows.append))
    assert rows
    for row in rows:
        assert row.ok, table.line(row)
        assert row.cache_compared, "readers asked for something"
