"""Shared work, and the circuit."""

from __future__ import annotations

import asyncio

import pytest

from streams.cache.circuit import Circuit
from streams.cache.coalesce import Coalescer


async def test_work_that_has_begun_is_not_shared() -> None:
    coalescer: Coalescer[int] = Coalescer()
    begun, gate = asyncio.Event(), asyncio.Event()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        begun.set()
        await gate.wait()
        return mine

    early = [asyncio.create_task(coalescer.run("k", work)) for _ in range(3)]
    await begun.wait()
    late = [asyncio.create_task(coalescer.run("k", work)) for _ in range(3)]
    other = asyncio.create_task(coalescer.run("other", work))
    gate.set()
    assert await asyncio.gather(*early) == [1, 1, 1]
    assert len(set(await asyncio.gather(*late))) == 1
    await other
    assert runs == 3


async def test_an_error_reaches_all_who_share_and_nobody_else() -> None:
    coalescer: Coalescer[None] = Coalescer()

    async def fail() -> None:
        raise LookupError

    results = await asyncio.gather(*(coalescer.run("k", fail) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, LookupError]

    async def succeed() -> None: ...

    await coalescer.run("k", succeed)


async def test_closing_ends_what_is_under_way() -> None:
    coalescer: Coalescer[None] = Coalescer()
    calls = [asyncio.create_task(coalescer.run("k", asyncio.Event().wait)) for _ in range(2)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(coalescer.run("k", asyncio.Event().wait)))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await coalescer.close()
    for call in calls:
        with pytest.raises(asyncio.CancelledError):
            await call


def test_an_open_circuit_lets_one_attempt_through_at_a_time() -> None:
    now = 0.0
    circuit = Circuit(hold=1.0, clock=lambda: now)
    assert circuit.allows()
    circuit.failed()
    assert not circuit.allows()
    now = 1.0
    assert circuit.allows()
    assert not circuit.allows()
    now = 2.0
    assert circuit.allows()
    circuit.succeeded()
    assert circuit.allows()
    assert circuit.allows()
