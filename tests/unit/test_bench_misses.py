"""Why a read missed, from what was read and invalidated before."""

from __future__ import annotations

import time

import pytest

from streams.bench.misses import Misses, Why

PATH = "/v1/agents/a"


def test_reasons() -> None:
    applied: dict[str, float] = {}
    misses = Misses(applied)
    misses.note(PATH, "miss", time.time() - 1)
    misses.note(PATH, "miss", time.time() - 1)  # asked before the first had its answer: the same load
    misses.note(PATH, "hit", time.time())
    misses.note(PATH, "miss", time.time())
    applied["ag:a"] = time.time()
    misses.note(PATH, "miss", time.time())
    misses.note("/v1/tasks/t", "miss", time.time(), counts=False)
    misses.note("/v1/tasks/t", "hit", time.time())
    assert misses.reasons == {
        ("agents", Why.FIRST): 2,
        ("agents", Why.OTHER): 1,
        ("agents", Why.INVALIDATED): 1,
    }
    figures = misses.figures()
    assert figures["hit_ratio.agents"] == pytest.approx(0.2)
    assert figures["hit_ratio.tasks"] == 1
    assert figures["missed, agents: read for the first time"] == 2 / 6
