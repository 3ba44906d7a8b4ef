"""The model behind docs/scaling.md: it loses nothing, and says what can be said without it."""

from __future__ import annotations

import pytest

from docs.scaling.simulate import Costs, simulate

FREE = Costs(core_batch=0, core_event=0, wait_batch=1e-6, wait_event=0)


def test_without_costs_an_event_waits_for_its_batch_alone() -> None:
    late = simulate(2_000, FREE, linger=0.010, events=20_000)
    # The first of a batch waits 10 ms, the last nearly nothing.
    assert 3 < late.p50 < 7
    assert 9 < late.p99 <= 10.1
    assert late.busy == 0


def test_a_core_is_busy_for_what_its_events_take() -> None:
    late = simulate(5_000, Costs(0, 100e-6, 1e-6, 0), events=30_000)
    assert late.busy == pytest.approx(0.5, abs=0.03)


def test_more_than_a_core_can_do_grows_without_end() -> None:
    costs = Costs(0, 100e-6, 1e-6, 0)
    short, long = (simulate(20_000, costs, events=events) for events in (10_000, 40_000))
    assert long.busy > 0.98
    assert long.p99 > 3 * short.p99


def test_a_batch_costs_less_for_each_event_the_larger_it_is() -> None:
    costs = Costs(core_batch=1e-3, core_event=20e-6, wait_batch=1e-6, wait_event=0)
    slow, fast = (simulate(rate, costs, events=20_000) for rate in (500, 5_000))
    assert fast.busy < 10 * slow.busy / 2
