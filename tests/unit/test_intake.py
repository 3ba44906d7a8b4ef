"""The byte budget: bounded, fair, and no deadlock on a message larger than itself."""

from __future__ import annotations

import asyncio

from streams.intake import ByteBudget


async def test_more_than_the_budget_waits_its_turn() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(60)
    assert not budget.try_take(60)
    large = asyncio.create_task(budget.take(60))
    small = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done(), "first come, first served: the small one must not starve the large one"
    budget.give_back(60)
    await asyncio.gather(large, small)
    assert budget.used == 70


async def test_a_message_larger_than_the_budget_goes_in_alone() -> None:
    budget = ByteBudget(100)
    assert budget.try_take(500)
    assert not budget.try_take(1)
    budget.give_back(500)
    assert budget.try_take(1)


async def test_who_gave_up_waiting_takes_nothing() -> None:
    budget = ByteBudget(10)
    assert budget.try_take(10)
    waiter = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    budget.give_back(10)
    assert budget.used == 0
    assert budget.try_take(10)
