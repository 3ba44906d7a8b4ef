"""Values that are wrong for a kind of field, applied to every field of that kind."""

# ruff: noqa: E501 - a table of cases reads best with a line for each

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.corpus.case import AGENT, CANARY, STORED, TASK, Case, changed, encode, event, exchange_of, refused

# What each kind of field does not take. `None` is taken where the field may be left out.
WRONG: dict[str, list[Any]] = {
    "uuid": [5, True, 1.5, [], {}, "", "x", AGENT[:-1], AGENT + "0", " " + AGENT, AGENT.replace("-", "/"), "\u0000" * 36],
    "uuid7": [None, 7, [], {"id": TASK}, "", TASK[:-2], AGENT, "00000000-0000-0000-0000-000000000000", TASK[:14] + "4" + TASK[15:], TASK[:19] + "0" + TASK[20:]],
    "name": [None, 5, True, [], {}, "", "x" * 201, "a\u0000b", ["k"]],
    "text": [5, False, [], {"text": "x"}, "x" * 10_001, CANARY + "\u0000"],
    "object": [None, 5, "x", True, [], ["x"], {"a": "\u0000"}, {"\u0000": 1}, {"a": {"b": ["\u0000"]}}, {"a": 2**63}, {"a": [-(2**63) - 1]}, {"a": 10**30}],
    "digit": [None, "1", 1.5, 1.0, True, [], {}, -1, 10, 2**63, 10**30],
    "fraction": [None, "0.5", True, [], {}, -0.1, 1.0001, 1e300, -1e300],
    "fraction or null": ["0.5", True, [], {}, -0.1, 1.0001, 1e300],
    "weight": [None, True, [], {}, "", "x", 0, -1, "NaN", "Infinity", "-Infinity", 10**12, "1.1234567", 1e300, 10**30, "1" * 30],
    "bool": [None, 0, 1, "true", [], {}],
    "status": [None, 5, "", "ACTIVE", "asleep", [], {}, True],
    "options": [None, "ab", {}, [], ["a"], ["a", "a"], ["a", 5], ["a", ""], ["a", "x" * 201], ["a", "b\u0000"], [str(n) for n in range(101)], [["a"], "b"]],
    "names": [None, "x", {}, [5], [""], ["x" * 201], ["a\u0000"], ["n"] * 101, [["n"]]],
    "instant": [5, True, [], {}, "", "soon", "2026-01-31", "2026-01-31T12:00:00", "1795435200", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "2026-13-01T00:00:00Z"],
    "failure": [None, 5, "x", [], {}, {"code": "c"}, {"message": "m"}, {"code": "", "message": "m"}, {"code": 5, "message": "m"}],
}  # fmt: skip
MAY_BE_NULL = {"uuid", "text", "instant", "fraction or null"}

# Each field of each type, with its kind; `*` marks what must not be missing.
FIELDS: dict[str, dict[str, str]] = {
    "task.created": {"task_id": "uuid7*", "kind": "name*", "agent_id": "uuid", "user_id": "uuid", "priority": "digit", "payload": "object"},
    "task.assigned": {"task_id": "uuid7*", "agent_id": "uuid*"},
    "task.started": {"agent_id": "uuid"},
    "task.progressed": {"task_id": "uuid7*", "progress": "fraction*", "note": "text"},
    "task.completed": {"task_id": "uuid7*", "result": "object"},
    "task.failed": {"error": "failure*", "retryable": "bool"},
    "task.cancelled": {"reason": "text"},
    "round.opened": {"round_id": "uuid7*", "options": "options*", "quorum": "weight*", "closes_at": "instant"},
    "vote.cast": {"round_id": "uuid7*", "agent_id": "uuid*", "choice": "name*", "weight": "weight", "confidence": "fraction or null", "rationale": "text"},
    "vote.retracted": {"agent_id": "uuid*"},
    "round.closed": {"round_id": "uuid7*"},
    "agent.registered": {"agent_id": "uuid*", "name": "name*", "capabilities": "names", "is_active": "bool"},
    "agent.status_changed": {"status": "status*"},
}  # fmt: skip


def field_cases(type_: str, field: str, kind: str, *, required: bool) -> Iterator[Case]:
    where = {"failure": "data.error", "names": f"data.{field}", "options": f"data.{field}"}.get(
        kind, f"data.{field}"
    )
    wrong = [...] if required else []
    wrong += WRONG[kind]
    if kind in MAY_BE_NULL and required:
        wrong.append(None)
    for number, value in enumerate(wrong):
        name = f"{type_} {field} {number}"
        body = encode(event(name, type_, changed(type_, **{field: value})))
        yield Case(name, body, (refused(where),), (name,), exchange_of(type_))
    if kind in MAY_BE_NULL and not required:
        name = f"{type_} {field} null"
        yield Case(
            name,
            encode(event(name, type_, changed(type_, **{field: None}))),
            (STORED,),
            (name,),
            exchange_of(type_),
        )
