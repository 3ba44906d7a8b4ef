"""Alone means alone, and nobody waits for ever."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from streams.solo import Solo


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=30))
def test_who_is_alone_is_alone(script: list[tuple[bool, int, bool]]) -> None:
    async def scenario() -> None:
        solo, beside, alone = Solo(), 0, 0

        async def attempt(lonely: bool, turns: int, fails: bool) -> None:
            nonlocal beside, alone
            async with solo.alone() if lonely else solo.beside():
                beside, alone = beside + (not lonely), alone + lonely
                for _ in range(turns):
                    assert alone == 0 or (alone, beside) == (1, 0)
                    await asyncio.sleep(0)
                beside, alone = beside - (not lonely), alone - lonely
                if fails:
                    raise ValueError

        tasks = [asyncio.create_task(attempt(*step)) for step in script]
        for task in tasks[::7]:
            task.cancel()  # also while it waits for its turn
        async with asyncio.timeout(5):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in results if isinstance(error, AssertionError)] == []
        async with asyncio.timeout(1), solo.alone():
            pass

    asyncio.run(scenario())
