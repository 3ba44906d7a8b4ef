"""The corpus of bad input: more than 500 messages, each with what must become of it.

Three kinds of tables: values that are wrong for a kind of field (applied to every field of that kind),
whole events and bytes, and messages with properties and headers. Outcomes are written by hand from the
contract (docs/operations.md, schemas/), not taken from what the code does.
"""

# ruff: noqa: E501 - a table of cases reads best with a line for each

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from schemas.errors import Reason
from schemas.ids import derive_id
from streams.decode import BATCH, BINARY, STRUCTURED
from tests.corpus.case import (
    AGENT,
    CANARY,
    DATA,
    MAX_BYTES,
    MAX_EVENTS,
    NOW,
    ROUND,
    STORED,
    TASK,
    TIME,
    TOO_LARGE,
    UNDECODABLE,
    Case,
    Outcome,
    changed,
    encode,
    event,
    exchange_of,
    refused,
)

UNKNOWN = refused("type", Reason.UNKNOWN_TYPE)


def outside(field: str) -> Outcome:
    return refused(field, Reason.OUTSIDE_WINDOW)


def dated(**ago: float) -> str:
    return str(derive_id(NOW - timedelta(**ago), "elsewhere"))


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

# (attributes that are changed, outcome); `...` takes one away.
ENVELOPE: list[tuple[dict[str, Any], Outcome]] = [
    ({"specversion": ...}, refused("specversion")),
    ({"specversion": "0.3"}, refused("specversion")),
    ({"specversion": "1.0 "}, refused("specversion")),
    ({"specversion": 1.0}, refused("specversion")),
    ({"specversion": None}, refused("specversion")),
    ({"id": ...}, refused("id")),
    ({"id": ""}, refused("id")),
    ({"id": 5}, refused("id")),
    ({"id": None}, refused("id")),
    ({"id": ["x"]}, refused("id")),
    ({"id": "x" * 256}, refused("id")),
    ({"id": "é" * 128}, refused("id")),
    ({"id": "a\u0000b"}, refused("id")),
    ({"source": ...}, refused("source")),
    ({"source": ""}, refused("source")),
    ({"source": 5}, refused("source")),
    ({"source": {}}, refused("source")),
    ({"source": "x" * 256}, refused("source")),
    ({"source": "é" * 128}, refused("source")),
    ({"source": "\u0000"}, refused("source")),
    ({"source": "é" * 127}, STORED),
    ({"source": "a\r\nb"}, STORED),
    ({"source": "\u001b[31m"}, STORED),
    ({"source": "\U0001f989\u202e"}, STORED),
    ({"type": ...}, refused("type")),
    ({"type": ""}, UNKNOWN),
    ({"type": None}, UNKNOWN),
    ({"type": 5}, UNKNOWN),
    ({"type": []}, UNKNOWN),
    ({"type": "TASK.CREATED"}, UNKNOWN),
    ({"type": "task.created "}, UNKNOWN),
    ({"type": "task.exploded"}, UNKNOWN),
    ({"type": "vote.cast"}, UNKNOWN),
    ({"type": "x" * 1_000}, UNKNOWN),
    ({"type": "\r\n\u001b[2J"}, UNKNOWN),
    ({"type": "\u0000"}, UNKNOWN),
    ({"data": ...}, refused("data")),
    ({"data": 5}, refused("data")),
    ({"data": "{}"}, refused("data")),
    ({"data": []}, refused("data")),
    ({"data": True}, refused("data")),
    ({"time": ...}, refused("time")),
    ({"time": None}, refused("time")),
    ({"time": 1795435200}, refused("time")),
    ({"time": True}, refused("time")),
    ({"time": []}, refused("time")),
    ({"time": ""}, refused("time")),
    ({"time": "now"}, refused("time")),
    ({"time": "1795435200"}, refused("time")),
    ({"time": "1795435200000"}, refused("time")),
    ({"time": "infinity"}, refused("time")),
    ({"time": TIME[:10]}, refused("time")),
    ({"time": TIME[:19]}, refused("time")),
    ({"time": " " + TIME}, refused("time")),
    ({"time": TIME + "x"}, refused("time")),
    ({"time": TIME.replace("-", "").replace(":", "")}, refused("time")),
    ({"time": TIME[:11] + "24:00:00Z"}, refused("time")),
    ({"time": TIME[:11] + "23:59:60Z"}, refused("time")),
    ({"time": TIME[:19] + "+24:00"}, refused("time")),
    ({"time": TIME[:4] + "-13-01T00:00:00Z"}, refused("time")),
    ({"time": TIME[:4] + "-02-30T00:00:00Z"}, refused("time")),
    ({"time": "0000-01-01T00:00:00Z"}, refused("time")),
    ({"time": "+12026-01-01T00:00:00Z"}, refused("time")),
    ({"time": "0001-01-01T00:00:00+23:59"}, outside("time")),
    ({"time": "1970-01-01T00:00:00Z"}, outside("time")),
    ({"time": "9999-12-31T23:59:59Z"}, outside("time")),
    ({"time": "9999-12-31T23:59:59-23:59"}, outside("time")),
    ({"time": (NOW + timedelta(hours=1)).isoformat()}, outside("time")),
    ({"time": (NOW - timedelta(days=366)).isoformat()}, outside("time")),
    ({"time": TIME[:10] + " " + TIME[11:]}, STORED),
    ({"time": TIME[:10] + "t" + TIME[11:19] + "z"}, STORED),
    ({"time": TIME[:19] + ".123456789Z"}, STORED),
    ({"traceparent": 5}, STORED),
    ({"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, STORED),
    ({"traceparent": "x" * 10_000}, STORED),
    ({"traceparent": {"a": ["\u0000"]}}, STORED),
    ({"tracestate": ["a=b"]}, STORED),
    ({"tracestate": "a=b,a=c,\r\n"}, STORED),
    ({"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "x" * 5_000}, STORED),
    ({"datacontenttype": "text/plain", "subject": 5, "dataschema": {}, "x": [[[]]]}, STORED),
    ({"": "empty name", "\u0000": 1, "__class__": 1}, STORED),
    ({"extra": "x" * 100_000}, STORED),
]

# (fields of task.created's data, outcome): dates inside ids, odd values that are taken.
TASKS: list[tuple[dict[str, Any], Outcome]] = [
    ({"task_id": dated(days=400)}, outside("data.task_id")),
    ({"task_id": dated(days=20_000)}, outside("data.task_id")),
    ({"task_id": dated(hours=-1)}, outside("data.task_id")),
    ({"task_id": dated(days=-400)}, outside("data.task_id")),
    ({"task_id": "00000000-0000-7000-8000-000000000000"}, outside("data.task_id")),
    ({"task_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, outside("data.task_id")),
    ({"task_id": TASK.upper()}, STORED),
    ({"task_id": TASK.replace("-", "")}, STORED),
    ({"task_id": "urn:uuid:" + TASK}, STORED),
    ({"agent_id": "00000000-0000-0000-0000-000000000000"}, STORED),
    ({"agent_id": "ffffffff-ffff-ffff-ffff-ffffffffffff"}, STORED),
    ({"kind": "x" * 200}, STORED),
    ({"kind": "\u202e\u200b\ufeff\U0001f989"}, STORED),
    ({"kind": "'; DROP TABLE tasks; --"}, STORED),
    ({"kind": "{{7*7}} %s $1 \\x00 ${x}"}, STORED),
    ({"kind": "\r\n\t\u001b\u007f\u0085"}, STORED),
    ({"priority": 9}, STORED),
    ({"payload": {}}, STORED),
    ({"payload": {"": "", " ": None}}, STORED),
    (
        {"payload": {"a": 2**63 - 1, "b": -(2**63), "c": 5e-324, "d": 1.7976931348623157e308, "e": -0.0}},
        STORED,
    ),
    ({"payload": {"text": "x" * 100_000}}, STORED),
    ({"payload": {"list": list(range(5_000))}}, STORED),
    ({"payload": {str(n): n for n in range(2_000)}}, STORED),
    ({"payload": {"k" * 5_000: 1}}, STORED),
    ({"payload": {"a": "\ud83d\ude00 \u2028 \ufffd \uffff"}}, STORED),
    ({"payload": {"__proto__": 1, "constructor": {}, "$ref": "#/"}}, STORED),
    ({"unknown": {"a": "\u0000", "b": 10**30}}, STORED),
]

_WHOLE = '{"specversion":"1.0","id":"NAME","source":"corpus","type":"task.created","time":"TIME","data":DATA}'
_DATA = '{"task_id":"TASK","kind":"k"}'


def _bytes(data: str = _DATA, whole: str = _WHOLE) -> str:
    return whole.replace("DATA", data)


def _payload(json: str) -> str:
    return _bytes('{"task_id":"TASK","kind":"k","payload":{"x":' + json + "}}")


def _extra(json: str) -> str:
    return _bytes(whole=_WHOLE.replace('"data"', f'"extra":{json},"data"'))


# (what it is, the bytes of a structured event, outcome). NAME, TIME and TASK are filled in.
BYTES: list[tuple[str, str | bytes, Outcome]] = [
    ("nothing", b"", UNDECODABLE),
    ("a space", b" ", UNDECODABLE),
    ("NUL", b"\0", UNDECODABLE),
    ("null", b"null", refused("")),
    ("true", b"true", refused("")),
    ("a number", b"5", refused("")),
    ("a string", b'"x"', refused("")),
    ("an empty object", b"{}", refused("type")),
    ("an empty array", b"[]", refused("")),
    ("an array, structured", "[" + _bytes() + "]", refused("")),
    ("not closed", _bytes()[:-1], UNDECODABLE),
    ("closed twice", _bytes() + "}", UNDECODABLE),
    ("text behind", _bytes() + "x", UNDECODABLE),
    ("two events", _bytes() * 2, UNDECODABLE),
    ("lines of JSON", _bytes() + "\n" + _bytes(), UNDECODABLE),
    ("white space around", " \n\t\r" + _bytes() + "\r\n ", STORED),
    ("single quotes", _bytes().replace('"', "'"), UNDECODABLE),
    ("bare names", _bytes().replace('"id"', "id"), UNDECODABLE),
    ("a comment", _bytes().replace("{", "{/* x */", 1), UNDECODABLE),
    ("a trailing comma", _bytes().replace("}}", "},}"), UNDECODABLE),
    ("a missing comma", _bytes().replace(",", " ", 1), UNDECODABLE),
    ("form fields", b"id=1&type=task.created", UNDECODABLE),
    ("XML", b"<?xml version='1.0'?><event/>", UNDECODABLE),
    ("MessagePack", b"\x86\xabspecversion\xa31.0", UNDECODABLE),
    ("random bytes", bytes(range(256)), UNDECODABLE),
    ("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + _bytes().encode(), UNDECODABLE),
    ("UTF-16", _bytes().encode("utf-16"), UNDECODABLE),
    ("UTF-32", _bytes().encode("utf-32"), UNDECODABLE),
    ("Latin-1", _bytes().replace('"k"', '"\xe9"').encode("latin-1"), UNDECODABLE),
    (
        "a lone continuation byte",
        _bytes().replace('"k"', '"?"').encode().replace(b'"?"', b'"\x80"'),
        UNDECODABLE,
    ),
    ("an overlong NUL", _bytes().replace('"k"', '"?"').encode().replace(b'"?"', b'"\xc0\x80"'), UNDECODABLE),
    (
        "a surrogate in UTF-8",
        _bytes().replace('"k"', '"?"').encode().replace(b'"?"', b'"\xed\xa0\x80"'),
        UNDECODABLE,
    ),
    (
        "beyond Unicode",
        _bytes().replace('"k"', '"?"').encode().replace(b'"?"', b'"\xf4\x90\x80\x80"'),
        UNDECODABLE,
    ),
    (
        "cut inside a character",
        _bytes().replace('"k"', '"?"').encode().replace(b'"?"', b'"\xe2\x82"'),
        UNDECODABLE,
    ),
    ("bad UTF-8 in an extra attribute", _extra('"?"').encode().replace(b'"?"', b'"\xff"'), UNDECODABLE),
    ("a lone high surrogate", _payload(r'"\ud800"'), UNDECODABLE),
    ("a lone low surrogate", _payload(r'"\udc00"'), UNDECODABLE),
    ("surrogates in the wrong order", _payload(r'"\ude00\ud83d"'), UNDECODABLE),
    ("a pair of surrogates", _payload(r'"\ud83d\ude00"'), STORED),
    ("an escaped NUL", _payload(r'"\u0000"'), refused("data.payload")),
    ("an escaped NUL in a name", _payload(r'{"\u0000":1}'), refused("data.payload")),
    ("a raw control character", _payload('"\x01"'), UNDECODABLE),
    ("a raw line break", _payload('"a\nb"'), UNDECODABLE),
    ("an unknown escape", _payload(r'"\x41"'), UNDECODABLE),
    ("a cut escape", _payload(r'"\u00"'), UNDECODABLE),
    ("all escapes", _payload(r'"\"\\\/\b\f\n\r\t\u00e9"'), STORED),
    ("NaN", _payload("NaN"), refused("data.payload")),
    ("Infinity", _payload("Infinity"), refused("data.payload")),
    ("-Infinity", _payload("-Infinity"), refused("data.payload")),
    ("nan", _payload("nan"), UNDECODABLE),
    ("a float too large", _payload("1e400"), refused("data.payload")),
    ("a float too small", _payload("1e-400"), STORED),
    ("30 digits", _payload("1" * 30), refused("data.payload")),
    ("30 digits below zero", _payload("-" + "1" * 30), refused("data.payload")),
    ("30 digits behind the point", _payload("0." + "1" * 30), STORED),
    ("10,000 digits", _payload("1" * 10_000), UNDECODABLE),
    ("a leading zero", _payload("01"), UNDECODABLE),
    ("a leading plus", _payload("+1"), UNDECODABLE),
    ("no digit before the point", _payload(".5"), UNDECODABLE),
    ("no digit behind the point", _payload("5."), UNDECODABLE),
    ("hexadecimal", _payload("0x10"), UNDECODABLE),
    ("minus zero", _payload("-0"), STORED),
    ("an exponent", _payload("1E+2"), STORED),
    ("undefined", _payload("undefined"), UNDECODABLE),
    ("True", _payload("True"), UNDECODABLE),
    ("depth 31", _payload("[" * 31 + "]" * 31), STORED),
    ("depth 32", _payload("[" * 32 + "]" * 32), refused("data.payload")),
    ("depth 100", _payload("[" * 100 + "]" * 100), refused("data.payload")),
    ("objects of depth 100", _payload('{"a":' * 100 + "1" + "}" * 100), refused("data.payload")),
    ("depth 1,025", _payload("[" * 1_025 + "]" * 1_025), UNDECODABLE),
    ("depth 20,000", _payload("[" * 20_000 + "]" * 20_000), UNDECODABLE),
    ("depth 20,000, never closed", b"[" * 20_000, UNDECODABLE),
    ("depth 20,000 of objects", b'{"a":' * 20_000, UNDECODABLE),
    ("depth 1,025 in an extra attribute", _extra("[" * 1_025 + "]" * 1_025), UNDECODABLE),
    ("NaN in an extra attribute", _extra("NaN"), STORED),
    ("30 digits in an extra attribute", _extra("1" * 30), STORED),
    # Of a name that stands twice the last one counts, in attributes as in payloads.
    ("a kind twice, the last one good", _bytes('{"task_id":"TASK","kind":5,"kind":"k"}'), STORED),
    (
        "a kind twice, the last one bad",
        _bytes('{"task_id":"TASK","kind":"k","kind":5}'),
        refused("data.kind"),
    ),
    ("a type twice, the last one good", _bytes(whole=_WHOLE.replace('"type"', '"type":"x","type"')), STORED),
    (
        "a type twice, the last one unknown",
        _bytes(whole=_WHOLE.replace('"task.created"', '"task.created","type":"x"')),
        UNKNOWN,
    ),
    ("data twice, the last one good", _bytes(whole=_WHOLE.replace('"data"', '"data":7,"data"')), STORED),
    ("a name of the payload twice", _payload('{"a":1,"a":2}'), STORED),
    ("a 30-digit integer that is overwritten", _payload('{"a":' + "1" * 30 + ',"a":2}'), STORED),
    ("too many bytes", b" " * (MAX_BYTES + 1), TOO_LARGE),
    ("too many bytes around an event", _bytes().encode() + b" " * MAX_BYTES, TOO_LARGE),
]

_GOOD, _UNKNOWN_TYPE, _NO_TYPE = "good", {"type": "task.exploded"}, {"type": ...}
# (what it is, elements as changes of a good event or as they are, outcomes). `GOOD` elements are stored.
ARRAYS: list[tuple[str, list[Any], list[Outcome]]] = [
    ("one", [{}], [STORED]),
    ("a few", [{}] * 5, [STORED] * 5),
    ("as many as may be", [{}] * MAX_EVENTS, [STORED] * MAX_EVENTS),
    ("null between", [{}, b"null", {}], [STORED, refused(""), STORED]),
    ("numbers", [b"1", b"-2.5e3"], [refused(""), refused("")]),
    ("a string between", [{}, b'"],[{\\""', {}], [STORED, refused(""), STORED]),
    ("an array between", [{}, b"[]", {}], [STORED, refused(""), STORED]),
    ("nested arrays", [{}, b"[[[1],[2]],[{}]]", {}], [STORED, refused(""), STORED]),
    ("an empty object", [{}, b"{}", {}], [STORED, refused("type"), STORED]),
    ("the first bad", [_UNKNOWN_TYPE, {}, {}], [UNKNOWN, STORED, STORED]),
    ("the last bad", [{}, {}, _NO_TYPE], [STORED, STORED, refused("type")]),
    (
        "each bad differently",
        [_UNKNOWN_TYPE, _NO_TYPE, {"time": "x"}],
        [UNKNOWN, refused("type"), refused("time")],
    ),
    ("all bad", [{"id": ""}] * 10, [refused("id")] * 10),
    (
        "outside the window between",
        [{}, {"time": "1990-01-01T00:00:00Z"}, {}],
        [STORED, outside("time"), STORED],
    ),
    ("no specversion between", [{}, {"specversion": ...}, {}], [STORED, refused("specversion"), STORED]),
    ("a lone surrogate between", [{}, b'{"a":"\\ud800"}', {}], [STORED, UNDECODABLE, STORED]),
    ("bad UTF-8 between", [{}, b'{"a":"\xff"}', {}], [STORED, UNDECODABLE, STORED]),
    ("NaN between", [{}, b'{"type":NaN}', {}], [STORED, UNKNOWN, STORED]),
    ("depth 1,025 between", [{}, b"[" * 1_025 + b"]" * 1_025, {}], [STORED, UNDECODABLE, STORED]),
    (
        "depth 20,000 between",
        [{}, b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", {}],
        [STORED, UNDECODABLE, STORED],
    ),
    ("10,000 digits between", [{}, b'{"a":' + b"1" * 10_000 + b"}", {}], [STORED, UNDECODABLE, STORED]),
    ("a control character between", [{}, b'{"a":"\x01"}', {}], [STORED, UNDECODABLE, STORED]),
    ("a trailing comma inside", [{}, b'{"a":1,}', {}], [STORED, UNDECODABLE, STORED]),
    ("a bare word between", [{}, b"undefined", {}], [STORED, UNDECODABLE, STORED]),
    ("brackets in strings", [{"data": {"task_id": TASK, "kind": '}],[{"'}}, b"5"], [STORED, refused("")]),
    ("escaped quotes", [{"data": {"task_id": TASK, "kind": '\\"\\\\'}}, b"5"], [STORED, refused("")]),
]

# (what it is, the bytes of a batch, outcome of the whole message)
BROKEN_ARRAYS: list[tuple[str, bytes, Outcome]] = [
    ("empty", b"[]", UNDECODABLE),
    ("empty with spaces", b" [ \n ] ", UNDECODABLE),
    ("nothing", b"", UNDECODABLE),
    ("null", b"null", UNDECODABLE),
    ("an object", b'{"events":[]}', UNDECODABLE),
    ("a string", b'"[]"', UNDECODABLE),
    ("not closed", b"[5", UNDECODABLE),
    ("an element not closed", b'[{"a":1', UNDECODABLE),
    ("a string not closed", b'[{"a":"1}]', UNDECODABLE),
    ("a comma alone", b"[,]", UNDECODABLE),
    ("two commas", b"[5,,5]", UNDECODABLE),
    ("a trailing comma", b"[5,]", UNDECODABLE),
    ("a missing comma", b"[{} {}]", UNDECODABLE),
    ("text behind", b"[5] x", UNDECODABLE),
    ("two arrays", b"[5][5]", UNDECODABLE),
    ("a byte order mark", b"\xef\xbb\xbf[5]", UNDECODABLE),
    ("closed by the wrong bracket", b"[5}", UNDECODABLE),
    ("too many", b"[" + b"5," * MAX_EVENTS + b"5]", TOO_LARGE),
    ("far too many", b"[" + b"5," * 50_000 + b"5]", TOO_LARGE),
    ("far too many empty arrays", b"[" + b"[]," * 50_000 + b"[]]", TOO_LARGE),
    ("too many bytes", b"[" + b" " * MAX_BYTES + b"]", TOO_LARGE),
]

# (content type, outcome) of a structured event.
CONTENT_TYPES: list[tuple[str | None, Outcome]] = [
    ("application/cloudevents+json; charset=UTF-8", STORED),
    ("Application/CloudEvents+JSON", STORED),
    (" application/cloudevents+json ", STORED),
    ("application/cloudevents", UNDECODABLE),
    ("application/cloudevents+xml", UNDECODABLE),
    ("application/cloudevents+avro", UNDECODABLE),
    ("application/octet-stream", UNDECODABLE),
    ("application/msgpack", UNDECODABLE),
    ("text/plain", UNDECODABLE),
    ("text/json", UNDECODABLE),
    ("json", UNDECODABLE),
    ("\r\n\u001b[2J", UNDECODABLE),
    ("x" * 255, UNDECODABLE),
    ("", refused("id")),
    (None, refused("id")),
    ("application/json", refused("id")),
]

_NO_ID = {"message_id": None}
# (changes of good properties, body of data or None, outcome) in binary mode.
BINARY_MODE: list[tuple[dict[str, Any], Any, Outcome]] = [
    ({}, None, STORED),
    ({"content_type": None}, None, STORED),
    ({"message_id": None}, None, refused("id")),
    ({"type": None}, None, refused("type")),
    ({"app_id": None}, None, refused("source")),
    ({"timestamp": None}, None, refused("time")),
    ({"message_id": None, "type": None, "app_id": None, "timestamp": None}, None, refused("id")),
    ({"type": "task.exploded"}, None, UNKNOWN),
    ({"type": "x" * 255}, None, UNKNOWN),
    ({"timestamp": 1}, None, outside("time")),
    ({"timestamp": 4_102_444_800}, None, outside("time")),
    ({"headers": {"cloudEvents:time": TIME[:19] + ".5Z"}}, None, STORED),
    ({"headers": {"cloudEvents_time": TIME}}, None, STORED),
    ({"headers": {"cloudEvents:time": "yesterday"}}, None, refused("time")),
    ({"headers": {"cloudEvents:time": TIME[:19]}}, None, refused("time")),
    ({"headers": {"cloudEvents:time": 1795435200}}, None, refused("time")),
    ({"headers": {"cloudEvents:time": [TIME]}}, None, refused("time")),
    ({"headers": {"cloudEvents:time": {"a": 1}}}, None, refused("time")),
    ({"headers": {"cloudEvents:id": 5}}, None, refused("id")),
    ({"headers": {"cloudEvents:id": ""}}, None, refused("id")),
    ({"headers": {"cloudEvents:id": "a\u0000b"}}, None, refused("id")),
    ({"headers": {"cloudEvents:id": "x" * 300}}, None, refused("id")),
    ({"headers": {"cloudEvents:source": {"x": 1}}}, None, refused("source")),
    ({"headers": {"cloudEvents:source": bytearray(b"\xff\xfe")}}, None, refused("source")),
    ({"headers": {"cloudEvents:type": 5}}, None, refused("type")),
    ({"headers": {"cloudEvents:type": "task.exploded"}}, None, UNKNOWN),
    ({"headers": {"cloudEvents:specversion": "0.3"}}, None, refused("specversion")),
    ({"headers": {"cloudEvents:specversion": "1.0"}}, None, STORED),
    ({"headers": {"traceparent": 5, "tracestate": [1]}}, None, STORED),
    ({}, b"", UNDECODABLE),
    ({}, b"null", refused("data")),
    ({}, b"[]", refused("data")),
    ({}, b"5", refused("data")),
    ({}, b"{}", refused("data.task_id")),
    ({}, b"\xff", UNDECODABLE),
    ({}, b'{"task_id":"\\ud800"}', UNDECODABLE),
    ({}, encode({"task_id": AGENT, "kind": "k"}), refused("data.task_id")),
    ({}, encode({"task_id": TASK, "kind": 5}), refused("data.kind")),
    ({}, encode({"task_id": dated(days=400), "kind": "k"}), outside("data.task_id")),
    ({}, b'{"task_id":"' + TASK.encode() + b'","kind":"k","payload":{"a":NaN}}', refused("data.payload")),
]

_DEEP: Any = "x"
for _ in range(300):
    _DEEP = [_DEEP]
# (properties of a structured event, outcome): none of them costs a good event.
PROPERTIES: list[tuple[dict[str, Any], Outcome]] = [
    ({"headers": {"traceparent": "00-zz"}}, STORED),
    ({"headers": {"traceparent": "x" * 50_000}}, STORED),
    ({"headers": {"traceparent": "\r\n\r\nGET /"}}, STORED),
    (
        {"headers": {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "=" * 600}},
        STORED,
    ),
    ({"headers": {"traceparent": bytearray(b"\xff")}}, STORED),
    ({"headers": {"traceparent": None}}, STORED),
    ({"headers": {"baggage": "k=v," * 25_000}}, STORED),
    ({"headers": {"baggage": "k=v\r\nx-evil: 1"}}, STORED),
    ({"headers": {str(n): "x" * 20 for n in range(2_000)}}, STORED),
    ({"headers": {"n" * 128: 1}}, STORED),
    ({"headers": {"deep": _DEEP}}, STORED),
    ({"headers": {"table": {"a": {"b": {"c": [1, "x", None, True, {"d": 2**62}]}}}}}, STORED),
    ({"headers": {"float": 1e300, "small": 5e-324, "decimal": 1.5}}, STORED),
    ({"headers": {"x-delivery-count": 10**9}}, STORED),
    ({"headers": {"x-delivery-count": -5}}, STORED),
    ({"headers": {"x-delivery-count": "many"}}, STORED),
    ({"headers": {"x-death": [{"queue": "tasks.record_tasks", "count": 2**40}]}}, STORED),
    ({"headers": {"x-replays": "x", "x-replay-of": 5, "x-first-seen": {}}}, STORED),
    ({"headers": {"x-replays": -1, "x-replay-of": "00-zz", "x-first-seen": "x" * 1_000}}, STORED),
    ({"headers": {"x-reason": "refused", "x-exchange": "evil", "x-original": {"a": 1}}}, STORED),
    ({"headers": {"CC": ["elsewhere"], "BCC": ["nowhere"]}}, STORED),
    ({"headers": {"cloudEvents:id": "ignored in structured mode"}}, STORED),
    ({"content_encoding": "gzip"}, STORED),
    ({"content_encoding": "utf-8"}, STORED),
    ({"message_id": None}, STORED),
    ({"message_id": "\r\n\u001b[2J\u0000"}, STORED),
    ({"type": "something.else", "app_id": "\u0000"}, STORED),
    ({"timestamp": 0}, STORED),
    ({"timestamp": 2**62}, STORED),
    ({"priority": 255, "reply_to": "x" * 255, "expiration": "3600000"}, STORED),
]


def _nested(depth: int) -> bytes:
    """A header table with an array that nests so deep, as on the wire."""
    value = b""
    for _ in range(depth):
        value = b"A" + len(value).to_bytes(4, "big") + value
    return (len(value) + 2).to_bytes(4, "big") + b"\x01x" + value


_NO_UTF8 = b"\xff" * 255
# (properties that libraries refuse to write, as on the wire, outcome) of a structured event. A table with a
# kind of value that nobody knows is refused by RabbitMQ itself.
RAW_PROPERTIES: list[tuple[dict[str, Any], Outcome]] = [
    ({"content_type": _NO_UTF8}, UNDECODABLE),
    ({"content_type": b"\xff" + STRUCTURED.encode()}, UNDECODABLE),
    ({"content_encoding": _NO_UTF8}, STORED),
    ({"message_id": _NO_UTF8}, STORED),
    ({"type": _NO_UTF8}, STORED),
    ({"app_id": _NO_UTF8}, STORED),
    ({"reply_to": _NO_UTF8}, STORED),
    ({"headers": b"\x00\x00\x00\x07\x01\xffI\x00\x00\x00\x01"}, STORED),
    ({"headers": _nested(13_000)}, STORED),
    *(({"headers": _nested(depth)}, STORED) for depth in range(50, 500, 50)),
]
# The same properties on an event that is refused: its letter must be written whatever they are.
REFUSED_PROPERTIES = [
    properties for properties, _ in PROPERTIES + RAW_PROPERTIES if "content_type" not in properties
]


def cases() -> list[Case]:
    """The corpus."""
    found = list(_cases())
    names = [case.name for case in found]
    assert len(set(names)) == len(names)
    return found


def _cases() -> Iterator[Case]:
    for type_, fields in FIELDS.items():
        for field, kind in fields.items():
            yield from _field_cases(type_, field, kind.rstrip("*"), required=kind.endswith("*"))
    for number, (attributes, outcome) in enumerate(ENVELOPE):
        yield _structured(
            f"envelope {number}", encode(event(f"envelope {number}", **attributes)), outcome, attributes
        )
    for number, (fields, outcome) in enumerate(TASKS):
        name = f"task {number}"
        yield _structured(name, encode(event(name, data=changed("task.created", **fields))), outcome)
    for what, raw, outcome in BYTES:
        yield _structured(f"bytes: {what}", _filled(raw, f"bytes: {what}"), outcome)
    for what, elements, outcomes in ARRAYS:
        yield _array(f"array: {what}", elements, outcomes)
    for what, raw, outcome in BROKEN_ARRAYS:
        yield Case(f"broken array: {what}", raw, (outcome,), ("",), content_type=BATCH)
    for number, (content_type, outcome) in enumerate(CONTENT_TYPES):
        name = f"content type {number}"
        yield Case(name, encode(event(name)), (outcome,), (name,), content_type=content_type)
    for number, (properties, body, outcome) in enumerate(BINARY_MODE):
        yield _binary(f"binary {number}", properties, body, outcome)
    for number, (properties, outcome) in enumerate(PROPERTIES):
        name = f"properties {number}"
        yield Case(name, encode(event(name)), (outcome,), (name,), properties=properties)
    for number, (properties, outcome) in enumerate(RAW_PROPERTIES):
        name = f"raw properties {number}"
        given = dict(properties)
        content_type = given.pop("content_type", STRUCTURED)
        yield Case(
            name, encode(event(name)), (outcome,), (name,), content_type=content_type, properties=given
        )
    for number, properties in enumerate(REFUSED_PROPERTIES):
        name = f"refused with properties {number}"
        body = encode(event(name, type="task.exploded"))
        yield Case(name, body, (UNKNOWN,), (name,), properties=properties)
        name = f"undecodable with properties {number}"
        yield Case(name, b"\xff", (UNDECODABLE,), (name,), properties=properties)
    for encoding in ("gzip", "deflate", "br"):
        name = f"content encoding {encoding}"
        yield Case(
            name,
            b"\x1f\x8b\x08" + name.encode(),
            (UNDECODABLE,),
            (name,),
            properties={"content_encoding": encoding},
        )


def _field_cases(type_: str, field: str, kind: str, *, required: bool) -> Iterator[Case]:
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


def _structured(name: str, body: bytes, outcome: Outcome, attributes: dict[str, Any] | None = None) -> Case:
    return Case(name, body, (outcome,), (str((attributes or {}).get("id", name)),))


def _filled(raw: str | bytes, name: str) -> bytes:
    body = raw if isinstance(raw, bytes) else raw.encode()
    for word, value in (("NAME", name), ("TIME", TIME), ("TASK", TASK)):
        body = body.replace(word.encode(), value.encode())
    return body


def _array(name: str, elements: list[Any], outcomes: list[Outcome]) -> Case:
    """Written with white space that no encoder of ours would write: a letter must keep it."""
    ids = [f"{name} {number}" for number in range(len(elements))]
    raw = [
        element if isinstance(element, bytes) else encode(event(id_, **element)).replace(b",", b" ,\t", 1)
        for id_, element in zip(ids, elements, strict=True)
    ]
    body = b" [\n" + b" ,\n".join(raw) + b"\n] "
    return Case(name, body, tuple(outcomes), tuple(ids), content_type=BATCH, elements=tuple(raw))


def _binary(name: str, properties: dict[str, Any], body: bytes | None, outcome: Outcome) -> Case:
    good = {
        "message_id": name,
        "type": "task.created",
        "app_id": "corpus",
        "timestamp": int(NOW.timestamp()) - 60,
    }
    given = {**good, **properties}
    content_type = given.pop("content_type", BINARY)
    data = encode(DATA["task.created"]) if body is None else body
    return Case(name, data, (outcome,), (name,), content_type=content_type, properties=given)


__all__ = ["ROUND", "STRUCTURED", "cases"]
