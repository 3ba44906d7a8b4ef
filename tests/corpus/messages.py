"""Arrays, binary mode, content types, properties and headers."""

from __future__ import annotations

from typing import Any

from streams.decode import STRUCTURED
from tests.corpus.case import (
    AGENT,
    MAX_BYTES,
    MAX_EVENTS,
    STORED,
    TASK,
    TIME,
    TOO_LARGE,
    UNDECODABLE,
    UNKNOWN,
    Outcome,
    dated,
    encode,
    outside,
    refused,
)

_UNKNOWN_TYPE, _NO_TYPE = {"type": "task.exploded"}, {"type": ...}
# (what it is, elements as changes of a good event or as they are, outcomes).
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
    ("NaN between", [{}, b'{"type":NaN}', {}], [STORED, refused("type"), STORED]),
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
