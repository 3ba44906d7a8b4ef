"""The named loads: steady, api, mixed, and the guide's profiles smoke, load, stress and soak.

A user of a profile reads once a second, in an open loop: unlike a user of k6 it does not wait for its answer
before it asks again, so a service that falls behind is not given a rest. Producers publish `WRITES_PER_USER`
events a second for each user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from streams.bench.openloop import Load

WRITES_PER_USER: Final = 4.0
_PRELOAD: Final = 10_000


@dataclass(frozen=True, slots=True)
class Profile:
    """As the guide has it. `steps`: parts of the users, one after another, each for its part of the time."""

    users: int
    minutes: float
    about: str
    steps: tuple[float, ...] = (1.0,)

    def loads(self, users: int | None = None, minutes: float | None = None) -> dict[str, Load]:
        """The loads by name, scaled."""
        users = self.users if users is None else users
        seconds = 60 * (self.minutes if minutes is None else minutes) / len(self.steps)
        found = {}
        for part in self.steps:
            count = max(1, round(users * part))
            found[f"{count} users"] = Load(
                seconds, writes=count * WRITES_PER_USER, reads=float(count), preload=_PRELOAD
            )
        return found


PROFILES: Final = {
    "smoke": Profile(2, 1, "Does it work at all? 2 users for a minute."),
    "load": Profile(100, 10, "An ordinary day: 100 users for ten minutes."),
    "stress": Profile(500, 10, "Up to 500 users in five steps.", (0.2, 0.4, 0.6, 0.8, 1.0)),
    "soak": Profile(50, 24 * 60, "50 users for a day: memory must not grow."),
}


def steady(rate: float, seconds: float) -> Load:
    return Load(seconds, writes=rate)


def consistency(rate: float, seconds: float) -> Load:
    """The steady load and some readers, under the eyes of the checker."""
    return Load(seconds, writes=rate, reads=200.0, check=20.0, preload=_PRELOAD, warm=True)


def api(rate: float, seconds: float) -> Load:
    """Cached reads alone: everything is read once beforehand."""
    return Load(seconds, reads=rate, warm_up=min(5.0, seconds / 2), preload=_PRELOAD, warm=True)


def mixed(reads: float, writes: float, seconds: float) -> dict[str, Load]:
    """Reads by Zipf's law under writes.

    *cold*: Redis is empty, the API has just started; *warm*: all that is stored has been read once, as after
    some hours; *newest first*: warm, and people read what has just happened.
    """
    cold = Load(seconds, writes=writes, reads=reads, warm_up=min(5.0, seconds / 2), preload=_PRELOAD)
    warm = replace(cold, warm=True)
    return {"cold": cold, "warm": warm, "newest first": replace(warm, newest_first=True)}
