"""Events with random damage, for the judges: fields dropped, added, replaced by values at and past every
bound, by other spellings, by values of other types."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.contract.judges import MESSAGES, SUBSCRIPTIONS

UUID4 = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
UUID7 = "019bc0fd-89c0-7c3e-9d3f-2b1a4c5d6e7f"

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "a", "\x00", "a\n", "ü", "\ud800", "null", "1.0", "urn:uuid:"]),
    st.sampled_from([199, 200, 201, 254, 255, 256, 9_999, 10_000, 10_001]).map("x".__mul__),
    st.sampled_from([127, 128, 200, 201]).map("ü".__mul__),
)
uuids = st.sampled_from([UUID4, UUID7]).flatmap(
    lambda u: st.sampled_from(
        [
            u, u.upper(), u.replace("-", ""), f"{{{u}}}", f"urn:uuid:{u}", u[:-1], u + "0", u + "\n", f" {u}",
            u[:14] + "4" + u[15:], u[:14] + "7" + u[15:], u[:19] + "c" + u[20:], "0" * 8 + u[8:],
            "f" * 8 + u[8:],
        ]
    )
)  # fmt: skip
instants = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(
            [
                "2026-01-15",
                "2025-02-28",
                "2025-02-29",
                "2024-02-29",
                "2100-02-29",
                "2025-04-31",
                "0000-01-01",
                "2025-01-15",
                "2025-01-14",
                "9999-12-31",
                "0999-06-01",
                "2026-1-5",
                "20260115",
                "2026-13-01",
            ]
        ),
        st.sampled_from(["T", "t", " ", "_", ""]),
        st.sampled_from(["09:30:00", "09:30", "23:59:59", "24:00:00", "09:30:60", "9:30:00", "093000"]),
        st.sampled_from(["", ".5", ".123456", ".1234567", ".123456789", ".1234567890", ".", ",5"]),
        st.sampled_from(["Z", "z", "+00:00", "-00:00", "+23:59", "+24:00", "+0100", "+01", "", "\n"]),
    ),
    st.sampled_from(["1768469400", "1768469400.5", "2026-01-15", "now"]),
)
numbers = st.one_of(
    st.integers(-2, 12),
    st.sampled_from(
        [0.0, 1.0, 3.0, -0.0, 0.5, 1.5, 1e-6, 1e-7, 0.1234567, 999_999.999999, 1e6, 1e30, 2.5e-3]
    ),
    st.sampled_from([999_999, 1_000_000, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
)
decimals = st.sampled_from(
    [
        " 1",
        "1\n",
        *[
            "1",
            "0",
            "0.5",
            "00.5",
            ".5",
            "5.",
            "01",
            "+1",
            "-1",
            "1_0",
            "1e2",
            "1E-6",
            "1e-7",
            "0.000001",
            "0.0000001",
            "1.0000000",
        ],
        *["999999.999999", "1000000", "NaN", "Infinity", "１", "0.10", "12,5"],
    ]
)
names = st.sampled_from(
    ["t:x", "q:", "lock:x", "u:\n", "stats:ag:1", "agents", "agent:a:b:c", "a:b:c:d:e", "A:b", "x" * 200]
)
scalars = st.one_of(texts, uuids, instants, numbers, decimals, names, st.booleans(), st.none())


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(texts, scalars, max_size=3),
    st.sampled_from([30, 31, 32, 33, 40]).map(nested),
    st.sampled_from(
        [[1] * 101, ["a"] * 3, ["a", "b"], ["a", "a"], [], {}, [[]], [f"o{n}" for n in range(101)]]
    ),
    st.sampled_from([[f"{n}" for n in range(100)], ["x" * 201, "b"], {"keys": []}]),
    st.sampled_from([name for s in SUBSCRIPTIONS.values() for name in s.types]),
    st.sampled_from(["active", "paused", "asleep", "1.0", "0.3", 1.0]),
)


@st.composite
def damaged(draw: st.DrawFn, types: list[str]) -> Any:
    """An event of one of these types, with up to three things done to it."""
    example = MESSAGES[draw(st.sampled_from(types))]["examples"][0]["payload"]
    event = deepcopy(example)
    for _ in range(draw(st.integers(0, 3))):
        place = event
        while True:
            names = [*place] if isinstance(place, dict) else [*range(len(place))]
            name = draw(
                st.sampled_from(
                    [*names, "user_id", "closes_at", "extra"] if isinstance(place, dict) else names
                )
            )
            inner = place.get(name) if isinstance(place, dict) else place[name]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 4)):
                place = inner
                continue
            break
        if isinstance(place, dict) and draw(st.integers(0, 4)) == 0:
            place.pop(name, None)
        else:
            place[name] = deepcopy(draw(_fitting(str(name))))  # strategies hand out the same object again
    return event


def _fitting(name: str) -> st.SearchStrategy[Any]:
    """Mostly values of the kind that a field is about: they find the bounds."""
    kinds = {
        "_id": uuids,
        "time": instants,
        "_at": instants,
        "weight": st.one_of(decimals, numbers),
        "id": texts,
    }
    kinds |= {
        "quorum": st.one_of(decimals, numbers),
        "priority": numbers,
        "progress": numbers,
        "source": texts,
    }
    return next((st.one_of(kind, kind, values) for end, kind in kinds.items() if name.endswith(end)), values)
