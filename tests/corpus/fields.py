"""Every field of every type of event: values that its kind does not take, and the outermost that it does.

The tables are written by hand, so that the models do not judge themselves; test_decode_corpus.py holds them
against the models, so that no field is left out.
"""

# ruff: noqa: E501 - a table of cases reads best with a line for each

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.corpus.case import (
    AGENT,
    CANARY,
    DATA,
    MAX_BYTES,
    ROUND,
    STORED,
    TASK,
    TIME,
    UNKNOWN,
    Case,
    Outcome,
    changed,
    dated,
    encode,
    event,
    exchange_of,
    refused,
)

# What each kind of field does not take. `None` is taken where the field may be left out.
WRONG: dict[str, list[Any]] = {
    "uuid": [5, True, 1.5, [], {}, "", "x", AGENT[:-1], AGENT + "0", " " + AGENT, AGENT.replace("-", "/"), "\u0000" * 36],
    "uuid7": [7, [], {"id": TASK}, "", TASK[:-2], AGENT, "00000000-0000-0000-0000-000000000000", TASK[:14] + "4" + TASK[15:], TASK[:19] + "0" + TASK[20:]],
    "name": [None, 5, True, [], {}, "", "x" * 201, "a\u0000b", ["k"]],
    "text": [5, False, [], {"text": "x"}, "x" * 10_001, CANARY + "\u0000"],
    "object": [None, 5, "x", True, [], ["x"], {"a": "\u0000"}, {"\u0000": 1}, {"a": {"b": ["\u0000"]}}, {"a": 2**63}, {"a": [-(2**63) - 1]}, {"a": 10**30}],
    "digit": [None, "1", 1.5, 1.0, True, [], {}, -1, 10, 2**63, 10**30],
    "fraction": [None, "0.5", True, [], {}, -0.1, 1.0001, 1e300, -1e300],
    "fraction or null": ["0.5", True, [], {}, -0.1, 1.0001, 1e300],
    "weight": [None, True, [], {}, "", "x", 0, -1, "NaN", "Infinity", "-Infinity", 10**12, "1.1234567", 1e300, 10**30, "1" * 30],
    "quorum": [None, True, "", "x", 0, 0.5, "0.999999", -1, "NaN", "Infinity", 10**12, "1.1234567", 1e300, 10**30],
    "bool": [None, 0, 1, "true", [], {}],
    "status": [None, 5, "", "ACTIVE", "asleep", [], {}, True],
    "options": [None, "ab", {}, [], ["a"], ["a", "a"], ["a", 5], ["a", ""], ["a", "x" * 201], ["a", "b\u0000"], [str(n) for n in range(101)], [["a"], "b"]],
    "names": [None, "x", {}, [5], [""], ["x" * 201], ["a\u0000"], ["n"] * 101, [["n"]]],
    "instant": [5, True, [], {}, "", "soon", "2026-01-31", "2026-01-31T12:00:00", "1795435200", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "2026-13-01T00:00:00Z"],
    "failure": [None, 5, "x", [], {}, {"code": "c"}, {"message": "m"}, {"code": "", "message": "m"}, {"code": 5, "message": "m"}],
    "keys": [None, "u:x", {}, [5], [None], [["u:x"]], [""], [CANARY], ["u:" + "x" * 161], ["u:a b"], ["u:\u0000"], ["u:x\n"], ["u:x", "x"], ["lock:warming"], ["rl:u:read"], ["tag:agents"], ["lb:{daily:2026-11-24}:rank"], ["u:x"] * 10_001],
    "tags": [None, "user", {}, [5], [None], [["user"]], [""], [CANARY], ["USER"], ["user:" + "x" * 101], ["a:b:c:d:e"], ["user:\u0000"], ["user\n"], ["user"] * 10_001],
    "tally": [None, 5, "x", [], {CANARY: "x"}, {CANARY: None}, {CANARY: -1}, {CANARY + "\r\n": 1e300}, {"kind": "NaN"}],
    "count": [None, -1, 1.5, "1", True, [], {}],
}  # fmt: skip
MAY_BE_NULL = {"uuid", "uuid7", "text", "instant", "fraction or null"}

# A value of each JSON type, numbers in two kinds, and the kinds of fields that take it.
JSON_TYPES: dict[str, tuple[Any, set[str]]] = {
    "null": (None, {"any"}),
    "a boolean": (True, {"any", "bool"}),
    "an integer": (7, {"any", "digit", "weight", "quorum", "count"}),
    "a fraction": (0.5, {"any", "fraction", "fraction or null", "weight"}),
    "text": (CANARY, {"any", "identifier", "name", "text"}),
    "an array": ([CANARY], {"any", "names"}),
    "an object": ({CANARY: CANARY}, {"any", "object"}),
}

# The outermost values that each kind takes: PostgreSQL must take them, too.
TAKEN: dict[str, list[Any]] = {
    "uuid": [AGENT.upper(), "{" + AGENT + "}", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "uuid7": [dated(days=364).upper(), dated(seconds=-60)],
    "name": ["x", " ", "x" * 200, "\U0001f989" * 200, "\r\n\t\u001b"],
    "text": ["", "x" * 10_000, "\U0001f989" * 10_000],
    "object": [{}, {"a": [None, 2**63 - 1, -(2**63), 1e308]}, {"a": "x" * (MAX_BYTES - 1_000)}],
    "digit": [0, 9],
    "fraction": [0, 1, 0.0, -0.0, 1.0, 5e-324],
    "fraction or null": [0, 1, 5e-324],
    "weight": [1e-6, "0.000001", 999_999.999999, "999999.999999", "1e0"],
    "quorum": [1, "1.000001", "999999.999999"],
    "bool": [True, False],
    "status": ["active", "processing", "inactive", "paused"],
    "options": [["a", "b"], [str(n) for n in range(100)], ["x" * 200, "\U0001f989" * 200]],
    "names": [[], ["x" * 200] * 100],
    "instant": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", TIME],
    "failure": [{"code": "x" * 200, "message": ""}, {"code": "c", "message": "x" * 10_000, "more": CANARY}],
    "keys": [["u:" + "x" * 160], ["u:x"] * 10_000],
    "tags": [["user"], ["user:" + "x" * 100], ["user:a"] * 10_000],
    "tally": [{}, {"a": 0, "b": "999999999999.999999"}],
    "count": [0, 2**31],
}  # fmt: skip

# The attributes of all events, with their kinds.
ATTRIBUTES = {"specversion": "version*", "id": "identifier*", "source": "identifier*", "type": "type*", "time": "instant*", "data": "data*", "traceparent": "any", "tracestate": "any"}  # fmt: skip

# Each field of each type, with its kind; `*` marks what must not be missing.
FIELDS: dict[str, dict[str, str]] = {
    "task.created": {"task_id": "uuid7*", "kind": "name*", "agent_id": "uuid", "user_id": "uuid", "priority": "digit", "payload": "object"},
    "task.assigned": {"task_id": "uuid7*", "agent_id": "uuid*"},
    "task.started": {"task_id": "uuid7*", "agent_id": "uuid"},
    "task.progressed": {"task_id": "uuid7*", "progress": "fraction*", "note": "text"},
    "task.completed": {"task_id": "uuid7*", "result": "object"},
    "task.failed": {"task_id": "uuid7*", "error": "failure*", "retryable": "bool"},
    "task.cancelled": {"task_id": "uuid7*", "reason": "text"},
    "round.opened": {"round_id": "uuid7*", "options": "options*", "quorum": "quorum*", "task_id": "uuid7", "closes_at": "instant"},
    "vote.cast": {"round_id": "uuid7*", "agent_id": "uuid*", "choice": "name*", "weight": "weight", "confidence": "fraction or null", "rationale": "text"},
    "vote.retracted": {"round_id": "uuid7*", "agent_id": "uuid*"},
    "round.closed": {"round_id": "uuid7*"},
    "agent.registered": {"agent_id": "uuid*", "name": "name*", "capabilities": "names", "is_active": "bool"},
    "agent.status_changed": {"agent_id": "uuid*", "status": "status*"},
    "cache.invalidated": {"keys": "keys", "tags": "tags", "reason": "text"},
    "round.decided": {"round_id": "uuid7*", "choice": "name*", "tally": "tally*", "votes": "count*", "decided_at": "instant*"},
}  # fmt: skip


def field_cases() -> Iterator[Case]:
    """Each field of each type: missing, with a value of each JSON type, with wrong ones, with the outermost."""
    for type_, fields in FIELDS.items():
        for name, kind in ATTRIBUTES.items():
            yield from _json_types(type_, name, kind)
        for name, kind in fields.items():
            yield from _json_types(type_, f"data.{name}", kind)
            for number, value in enumerate(WRONG[kind.rstrip("*")]):
                yield _case(f"{type_} {name} {number}", type_, f"data.{name}", value, refused(f"data.{name}"))
            for number, value in enumerate(TAKEN[kind.rstrip("*")]):
                yield _case(f"{type_} {name} taken {number}", type_, f"data.{name}", value, STORED)


def _json_types(type_: str, path: str, kind: str) -> Iterator[Case]:
    required, kind = kind.endswith("*"), kind.rstrip("*")
    yield _case(f"{type_} without {path}", type_, path, ..., refused(path) if required else STORED)
    for what, (value, takers) in JSON_TYPES.items():
        may_be_null = value is None and kind in MAY_BE_NULL and not required
        outcome = STORED if kind in takers or may_be_null else refused(path)
        if kind == "type" and what == "text":
            value, outcome = "task.exploded", UNKNOWN  # the name of a type is told, it is no payload
        yield _case(f"{type_} {path} is {what}", type_, path, value, outcome)


def _case(name: str, type_: str, path: str, value: Any, outcome: Outcome) -> Case:
    """An event about an entity of its own: what it holds is written, whatever other events say."""
    entities = {"task_id": TASK, "round_id": ROUND, "agent_id": AGENT}
    own = {key: dated(hours=1, name=name) for key, given in entities.items() if DATA[type_].get(key) == given}
    attribute, _, field = path.partition(".")
    data = changed(type_, **(own | ({field: value} if field else {})))
    whole = event(name, type_, data)
    if not field:
        whole |= {attribute: f"{value} {name}" if (attribute, value) == ("id", CANARY) else value}
    whole = {key: each for key, each in whole.items() if each is not ...}
    is_kept = type_ not in ("cache.invalidated", "round.decided")
    ids = (str(whole.get("id", name)),)
    return Case(name, encode(whole), (outcome,), ids, exchange_of(type_), is_kept=is_kept)
