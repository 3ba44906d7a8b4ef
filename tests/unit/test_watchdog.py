"""When a consumer counts as lost, and when reading is held."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.budget import Budget
from streams.watchdog import Look, is_lost

WELL = Look(consuming=True, consumers=3, ready=0, received=10, room=True)
WAITING = replace(WELL, ready=5)


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (WELL, WELL, False),
        (WAITING, replace(WAITING, received=11), False),  # some come
        (WAITING, WELL, False),  # somebody else took them
        (WELL, WAITING, False),  # they arrived just now
        (WAITING, WAITING, True),
        (replace(WAITING, room=False), WAITING, False),  # our prefetch was used up
        (WAITING, replace(WAITING, room=False), False),
        (replace(WELL, consumers=0), replace(WELL, consumers=0), True),
        (WELL, replace(WELL, consumers=0), False),  # a reconnect may be under way
        (replace(WELL, consumers=0), WELL, False),
        (replace(WELL, consuming=False), replace(WELL, consuming=False), True),
        (replace(WELL, consuming=False), WELL, False),
    ],
)
def test_a_consumer_is_lost_when_two_looks_say_so(before: Look, now: Look, lost: bool) -> None:
    assert is_lost(before, now) is lost


@given(st.lists(st.integers(1, 40), max_size=60), st.randoms(use_true_random=False))
def test_reading_is_held_at_the_limit_and_resumed_at_half(sizes: list[int], random: Random) -> None:
    reading = True

    def hold() -> None:
        nonlocal reading
        reading = False

    def resume() -> None:
        nonlocal reading
        reading = True

    budget, held = Budget(100, hold, resume), []
    for size in sizes:
        while not reading or (held and random.random() < 0.3):
            was_reading = reading
            budget.give(held.pop())
            assert reading is (was_reading or budget.held <= 50)
        budget.take(size)
        held.append(size)
        assert budget.held == sum(held) < 100 + size
        assert reading is (budget.held < 100)
        assert (budget.holding_since is None) is reading
    while held:
        budget.give(held.pop())
    assert (budget.held, reading) == (0, True)
