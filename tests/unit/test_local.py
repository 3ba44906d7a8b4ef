"""What a process holds in memory."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from streams.cache.found import Want
from streams.cache.local import Local, LocalLimits
from streams.telemetry import Metrics


async def load() -> bytes:
    raise AssertionError("nothing is loaded here")


def want(key: str, *tags: str, strict: bool = False) -> Want:
    return Want(key, load, 60, tags, strict)


class Now:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def new(now: Now, metrics: Metrics) -> Callable[..., Local]:
    def make(**limits: float) -> Local:
        local = Local(metrics, LocalLimits(**limits), now)  # type: ignore[arg-type]
        local.open(now() + 1e6)
        return local

    return make


def store(local: Local, key: str, *tags: str, value: bytes = b"v", seconds: float = 60) -> None:
    fill = local.begin(want(key, *tags))
    local.put(fill, value, seconds)
    local.end(fill)


def held(local: Local, key: str) -> bytes | None:
    slot = local.get(key)
    return None if slot is None else slot.value


def empty(local: Local) -> bool:
    return not (len(local) or local.held_bytes or local._by_tag or local._fills or local._tag_fills)


def test_least_recently_used_values_go_first_and_bounds_hold(
    new: Callable[..., Local], metrics: Metrics
) -> None:
    local = new(entries=3)
    for key in "abc":
        store(local, key, f"tag-{key}", "all")
    assert held(local, "a") == b"v"
    store(local, "d", "all")
    assert [held(local, key) for key in "abcd"] == [b"v", None, b"v", b"v"]
    assert "tag-b" not in local._by_tag
    assert metrics.registry.get_sample_value("streams_cache_evictions_total", {"level": "l1"}) == 1

    by_bytes = new(bytes=100_000)
    for n in range(100):
        store(by_bytes, str(n), value=b"x" * 10_000)
        assert by_bytes.held_bytes <= 100_000
    assert 1 < len(by_bytes) < 10
    store(by_bytes, "large", value=b"x" * 12_501)
    assert held(by_bytes, "large") is None, "one value must not push out all others"


def test_values_expire_by_their_own_time_and_by_the_limit(new: Callable[..., Local], now: Now) -> None:
    local = new(seconds=60)
    store(local, "short", "t", seconds=10)
    store(local, "long", "t", seconds=600)
    now.seconds += 10
    assert held(local, "short") is None
    assert held(local, "long") == b"v"
    now.seconds += 50
    assert held(local, "long") is None
    assert empty(local)


@pytest.mark.parametrize("how", ["key", "tag", "flush", "close", "lapse"])
def test_a_fill_that_began_before_is_dead_and_one_that_begins_after_is_not(
    new: Callable[..., Local], metrics: Metrics, now: Now, how: str
) -> None:
    local = new()
    store(local, "k", "t", value=b"old")
    early = local.begin(want("k", "t"))
    match how:
        case "key":
            assert [slot.want.key for slot in local.invalidate(["k", "other"], [])] == ["k"]
        case "tag":
            assert [slot.want.key for slot in local.invalidate([], ["t", "other"])] == ["k"]
        case "flush":
            local.flush()
        case "close":
            local.close()
        case "lapse":
            now.seconds += 2e6
    assert held(local, "k") is None
    local.open(now() + 1e6)
    late = local.begin(want("k", "t"))
    local.put(early, b"old", 60)
    assert held(local, "k") is None
    assert metrics.registry.get_sample_value("streams_cache_stale_drops_total", {"level": "l1"}) == 1
    local.put(late, b"new", 60)
    assert held(local, "k") == b"new"
    for fill in (early, late):
        local.end(fill)
    local.flush()
    assert empty(local)


def test_nothing_is_held_unless_it_is_open_nor_what_is_strict(new: Callable[..., Local], now: Now) -> None:
    local = Local(Metrics(), clock=now)
    store(local, "k")
    assert empty(local)
    local.open(now() + 5)
    store(local, "k")
    fill = local.begin(want("s:session", strict=True))
    local.put(fill, b"v", 60)
    local.end(fill)
    assert held(local, "s:session") is None
    now.seconds += 4
    local.open(now() + 5)
    assert held(local, "k") == b"v", "opened for longer in time: nothing was missed"
    now.seconds += 5
    assert held(local, "k") is None
    local.open(now() + 5)
    assert held(local, "k") is None, "it was closed in between"


def test_a_random_history_agrees_with_a_plain_model(new: Callable[..., Local], now: Now) -> None:
    """Puts, invalidations and expiry in any order; what is held is what a dictionary without bounds holds."""
    rng = Random(7)
    local, model = new(entries=10_000), dict[str, tuple[bytes, tuple[str, ...], float]]()
    tags_of = {f"k{n}": tuple(rng.sample(["a", "b", "c", "d"], rng.randrange(3))) for n in range(40)}
    for step in range(20_000):
        key = f"k{rng.randrange(40)}"
        match rng.randrange(6):
            case 0:
                name = rng.choice(["a", "b", "c", "d"])
                local.invalidate([key], [name])
                model = {k: m for k, m in model.items() if k != key and name not in m[1]}
            case 1 | 2:
                value, seconds = str(step).encode(), rng.randrange(1, 60)
                store(local, key, *tags_of[key], value=value, seconds=seconds)
                model[key] = value, tags_of[key], now() + seconds
            case _:
                now.seconds += rng.random()
                expected = model.get(key)
                assert held(local, key) == (expected[0] if expected and now() < expected[2] else None)
