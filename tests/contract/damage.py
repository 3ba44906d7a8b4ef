"""Values at and past every bound of every field, and events that were damaged with them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from typing import Any

from hypothesis import strategies as st

from tests.contract.judges import MESSAGES, SCHEMAS

UUID4 = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UUID7 = "019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


def _spellings(u: str) -> list[str]:
    whole = [u, u.upper(), u.replace("-", ""), f"{{{u}}}", f"urn:uuid:{u}"]
    broken = [u[:-1], u + "0", u + "\n", f" {u}", u.replace("-", "_"), "g" + u[1:]]
    others = [u[:14] + "4" + u[15:], u[:14] + "7" + u[15:], u[:19] + "c" + u[20:]]
    return [*whole, *broken, *others, "0" * 8 + u[8:], "f" * 8 + u[8:]]


ANYTHING: list[Any] = [None, True, 0, 1, 1.5, -1, "", "x", "1", [], ["x"], {}, {"a": 1}, "\ud800"]
TEXTS: list[Any] = ["\x00", "a\x00", "a\n", "ü", *("x" * n for n in (199, 200, 201, 254, 255, 256))]
TEXTS += ["x" * 10_000, "x" * 10_001, "ü" * 127, "ü" * 128, "ü" * 200, "ü" * 201]
UUIDS = [*_spellings(UUID4), *_spellings(UUID7), 7]
DAYS = ["2026-01-15", "2025-02-28", "2025-02-29", "2024-02-29", "2100-02-29", "2000-02-29", "2025-04-30"]
DAYS += ["2025-04-31", "2025-12-31", "2025-12-32", "0000-01-01", "2025-01-15", "2025-01-14", "9999-12-31"]
DAYS += ["0999-06-01", "1000-01-01", "2026-1-5", "20260115", "2026-13-01", "2026-00-10", "2025-06-00"]
TIMES = ["09:30:00", "09:30", "23:59:59", "24:00:00", "09:60:00", "09:30:60", "9:30:00", "093000"]
PARTS = ["", ".5", ".123456", ".1234567", ".123456789", ".1234567890", ".", ",5"]
ZONES = ["Z", "z", "+00:00", "-00:00", "+23:59", "+24:00", "-02:00", "+0100", "+01", "", "\n", "Z\n"]
INSTANTS: list[Any] = [f"{day}T09:30:00Z" for day in DAYS]
INSTANTS += [f"2026-01-15T{time}Z" for time in TIMES] + [f"2026-01-15T09:30:00{part}Z" for part in PARTS]
INSTANTS += [f"2026-01-15T09:30:00{zone}" for zone in ZONES] + [
    f"2026-01-15{t}09:30:00Z" for t in ("t", " ", "_", "")
]
INSTANTS += [
    "9999-12-31T23:00:00-02:00",
    "1768469400",
    1768469400,
    1.5,
    "2026-01-15",
    "now",
    "2026-01-15T09:36:01Z",
]
NUMBERS: list[Any] = [
    -1,
    0,
    1,
    2,
    9,
    10,
    0.0,
    1.0,
    3.0,
    -0.0,
    0.5,
    1.0000001,
    -1e-9,
    1e30,
    2**63,
    10**30,
    "5",
    True,
]
DECIMALS: list[Any] = [*NUMBERS, 1e-6, 1e-7, 0.1234567, 999_999.999999, 999_999, 1_000_000, 1e6, 0.999999]
DECIMALS += [" 1", "1\n", "1", "0", "0.5", "00.5", ".5", "5.", "01", "+1", "-1", "1_0", "1e2", "1E-6", "1e-7"]
DECIMALS += [
    "0.000001",
    "0.0000001",
    "1.0000000",
    "999999.999999",
    "1000000",
    "999999999999",
    "1000000000000",
]
DECIMALS += ["NaN", "Infinity", "１", "0.10", "12,5", "0.999999"]
OBJECTS: list[Any] = [*(nested(n) for n in (31, 32, 33)), {"n": 2**63}, {"n": 2**63 - 1}, {"n": -(2**63) - 1}]
OBJECTS += [{"n": 1e300}, {"t": "\x00"}, {"\x00": 1}, {"l": ["\x00"]}, {"l": [[{"t": "\x00"}]]}, {"n": None}]
LISTS: list[Any] = [
    ["a", "b"],
    ["a", "a"],
    ["a"],
    ["a", ""],
    ["a", 1],
    ["a", None],
    [["a"], ["b"]],
    ["x" * 201, "b"],
]
LISTS += [[f"{n}" for n in range(100)], [f"{n}" for n in range(101)], ["\x00", "b"]]
NAMES = ["t:x", "q:", "lock:x", "u:\n", "stats:ag:1", "agents", "agent:a:b:c", "a:b:c:d:e", "A:b", "t:x/y"]
NAME_LISTS: list[Any] = (
    [[name] for name in NAMES] + [["t:" + "x" * n] for n in (160, 161)] + [["a"] * 10_001, [1]]
)
TALLIES: list[Any] = [{"a": n} for n in (0, -1, 1.5, 1e11, 1e12, "0", "0.5", "1e2", "-1", None)]

BY_FIELD: dict[str, list[Any]] = {
    "id": TEXTS,
    "source": TEXTS,
    "specversion": ["1.0", "0.3", "1", 1.0],
    "type": ["task.created", "vote.cast", "cache.applied", "round.decided"],
    "time": INSTANTS,
    "data": [[], None, {}, "{}"],
    "closes_at": INSTANTS,
    "decided_at": INSTANTS,
    "weight": DECIMALS,
    "quorum": DECIMALS,
    "priority": NUMBERS,
    "progress": NUMBERS,
    "confidence": NUMBERS,
    "votes": NUMBERS,
    "payload": OBJECTS,
    "result": OBJECTS,
    "options": LISTS,
    "capabilities": LISTS,
    "keys": NAME_LISTS,
    "tags": NAME_LISTS,
    "tally": TALLIES,
    "error": [{"code": "c"}, {"code": "", "message": ""}, {"code": "c", "message": "", "more": 1}],
    "status": ["active", "paused", "asleep", "ACTIVE"],
}


def corners(field: str) -> list[Any]:
    """What is put into a field: values about which somebody could be of another opinion."""
    kind = UUIDS if field.endswith("_id") else BY_FIELD.get(field, TEXTS)
    return [*kind, *ANYTHING]


def places(type_: str) -> list[tuple[str, str]]:
    """("" or "data", field) of all fields of a type, those that its example leaves out included."""
    envelope = SCHEMAS[MESSAGES[type_]["payload"]["$ref"].rpartition("/")[2]]["properties"]
    data = SCHEMAS[envelope["data"]["$ref"].rpartition("/")[2]]["properties"]
    return [
        *(("", name) for name in envelope),
        *(("data", name) for name in data),
        ("", "extra"),
        ("data", "extra"),
    ]


def example(type_: str) -> Any:
    return deepcopy(MESSAGES[type_]["examples"][0]["payload"])


def every_corner(type_: str) -> Iterator[Any]:
    """The example of a type with one field left out, or replaced by each of its corners."""
    for part, field in places(type_):
        event = example(type_)
        place = event.get(part) if part else event
        place.pop(field, None)
        yield deepcopy(event)
        for value in corners(field):
            place[field] = value
            yield event


@st.composite
def damaged(draw: st.DrawFn, types: list[str]) -> Any:
    """An event of one of these types with two to four things done to it."""
    type_ = draw(st.sampled_from(types))
    event = example(type_)
    for _ in range(draw(st.integers(2, 4))):
        part, field = draw(st.sampled_from(places(type_)))
        place = event.get(part) if part else event
        if not isinstance(place, dict):
            break  # an earlier damage
        if draw(st.integers(0, 5)) == 0:
            place.pop(field, None)
        else:
            place[field] = deepcopy(
                draw(st.one_of(st.sampled_from(corners(field)), st.text(max_size=5), INSTANT))
            )
    return event


INSTANT = st.sampled_from(list(product(DAYS, "T ", TIMES, PARTS, ZONES))).map("".join)
