"""The batcher never loses, duplicates, reorders or over-fills, whatever comes at whatever time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import BatchPolicy, Trigger
from streams.batcher import Batcher

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 400)),
        st.tuples(st.just("remove"), st.integers(2, 5)),
        st.tuples(st.just("wait"), st.integers(0, 30)),
        st.tuples(st.just("take"), st.just(0)),
    ),
    max_size=200,
)
policies = st.builds(
    BatchPolicy,
    size=st.integers(1, 20),
    linger=st.sampled_from([0.0, 0.005, 0.02]),
    bytes=st.integers(1, 1000),
)


@given(policies, steps)
def test_items_in_are_items_out_in_bounded_batches(
    policy: BatchPolicy, script: list[tuple[str, int]]
) -> None:
    batcher: Batcher[tuple[int, int]] = Batcher(policy)
    now = 0.0
    taken_in: list[tuple[int, int]] = []
    out: list[tuple[int, int]] = []
    removed: list[tuple[int, int]] = []

    def take() -> bool:
        due = batcher.due_in(now)
        closed = batcher.take(now)
        assert (closed is not None) == (due == 0.0)
        if closed is None:
            return False
        assert 1 <= len(closed.items) <= policy.size
        assert len(closed.items) == 1 or sum(size for _, size in closed.items) <= policy.bytes
        out.extend(closed.items)
        return True

    for number, (step, value) in enumerate(script):
        if step == "add":
            batcher.add((number, value), value, now)
            taken_in.append((number, value))
        elif step == "remove":
            gone = batcher.remove(lambda item, nth=value: item[0] % nth == 0)  # type: ignore[misc]
            assert all(number % value == 0 for number, _ in gone)
            removed += gone
        elif step == "wait":
            now += value / 1000
        else:
            take()
    batcher.flushing = True
    while take():
        pass
    assert len(batcher) == 0
    assert out == [item for item in taken_in if item not in removed]
    assert set(out).isdisjoint(removed)
    assert len(out) + len(removed) == len(taken_in)


def test_a_batch_that_is_not_full_waits_for_the_one_in_flight() -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy(size=2, linger=1.0))
    batcher.add(1, 1, 0.0)
    assert batcher.take(9.9, in_flight=True) is None
    assert batcher.due_in(9.0, in_flight=True) == 1.0
    assert batcher.due_in(10.0, in_flight=True) == 0.0, "but not for ever"
    assert batcher.due_in(1.0) == 0.0
    batcher.add(2, 1, 0.0)
    closed = batcher.take(0.0, in_flight=True)
    assert closed is not None, "a full one does not wait"


@given(policies.filter(lambda p: p.linger > 0), st.integers(1, 10))
def test_linger_is_counted_from_the_first_item(policy: BatchPolicy, count: int) -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy(size=count + 1, linger=policy.linger))
    for number in range(count):
        batcher.add(number, 1, number * policy.linger / count)
    assert batcher.take(policy.linger * 0.999) is None
    closed = batcher.take(policy.linger)
    assert closed is not None
    assert closed.trigger is Trigger.LINGER
    assert closed.items == list(range(count))
