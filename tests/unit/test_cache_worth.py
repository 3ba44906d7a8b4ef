"""What loading a key again is worth, who goes first, and what reading ahead may take of memory."""

from __future__ import annotations

from streams.cache.found import Want
from streams.cache.interest import HALF_LIFE, Interest, Payoff
from streams.cache.local import Local, LocalLimits
from streams.cache.waiting import Job, Rate, Waiting
from streams.telemetry import Metrics
from tests.cache_support import Now


async def load() -> bytes:
    raise AssertionError("nothing is loaded here")


def want(key: str, *, ahead: bool = False) -> Want:
    return Want(key, load, 60, (), strict=False, ahead=ahead)


def test_worth_is_the_chance_to_be_read_before_the_next_loss() -> None:
    interest = Interest(at=0.0)
    assert interest.worth == 0
    for second in range(1, 200):  # three reads for each loss, once a second
        interest.reads += 3
        interest.lose(float(second))
    assert 0.74 < interest.worth < 0.76
    for _ in range(300):  # nobody reads it any more
        second += 1
        interest.lose(float(second))
    assert interest.worth < 0.01
    once = Interest(at=0.0, reads=8)
    once.lose(3 * HALF_LIFE)
    assert (once.reads, once.losses) == (1, 1)


def test_the_least_useful_are_shed_and_a_key_waits_once() -> None:
    shed: list[str] = []
    waiting = Waiting(100, lambda job: shed.append(job.want.key))
    for number in range(101):
        waiting.add(Job(want(f"q:{number}"), worth=number / 100, due=0.0))
    assert sorted(shed) == sorted(f"q:{number}" for number in range(26))
    waiting.add(Job(want("q:26"), worth=1.5, due=9.0))
    waiting.add(Job(want("q:late"), worth=2.0, due=9.0))
    assert len(waiting) == 76
    assert [job.want.key for job in waiting.pick(2, now=1.0)] == ["q:26", "q:100"]
    assert "q:26" not in waiting
    assert (waiting.due(1.0), waiting.due(9.0)) == (73, 74)
    assert waiting.next_due() == 0.0
    assert len(waiting.pick(100, now=1.0)) == 73
    assert waiting.next_due() == 9.0


def test_a_rate_gives_no_more_than_it_has() -> None:
    now = Now(0.0)
    rate = Rate(100, now)
    assert (rate.take(50), rate.take(1), rate.wait(1)) == (10, 0, 0.01)
    now.seconds = 0.055
    assert (rate.take(50), rate.take(5)) == (0, 5)
    assert 0.094 < rate.wait(50) < 0.096
    now.seconds = 60.0
    assert rate.take(50) == 10
    now.seconds = 60.1
    assert rate.take(5, share=0.5) == 5


def test_reading_ahead_has_a_quarter_of_memory_and_its_yield_is_counted() -> None:
    metrics, now = Metrics(), Now(0.0)
    local = Local(metrics, LocalLimits(entries=40), now)
    local.open(1e9)

    def put(key: str, *, ahead: bool = False) -> None:
        fill = local.begin(want(key, ahead=ahead))
        local.put(fill, b"v", 60)
        local.end(fill)

    for number in range(20):
        put(f"q:read {number}")
    for number in range(50):
        put(f"t:{number}", ahead=True)
    assert len(local) == 30
    assert all(local.holds(f"q:read {number}") for number in range(20))
    assert local.get("t:45") is not None
    assert local.get("t:45") is not None
    put("t:more", ahead=True)
    assert local.holds("t:40"), "what was read has left that quarter"
    local.invalidate(["t:45", "t:46"], ())

    def told(result: str) -> float | None:
        labels = {"result": result}
        return metrics.registry.get_sample_value("streams_cache_read_ahead_total", labels)

    assert (told("used"), told("unused")) == (1, 41)
    assert local.payoff.share < Payoff().share
    assert local.interest("t:45") is not None
    assert local.interest("t:46") is None, "nobody ever asked for it"
