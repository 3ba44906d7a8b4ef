"""Traces as text, from files and from a server that answers like Jaeger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from streams.cli.commands import app

EVENT, BATCH, UPDATE = "e" * 32, "b" * 32, "c" * 32


def span(
    trace: str,
    number: int,
    name: str,
    *,
    parent: int = 0,
    kind: int = 1,
    start: float = 0,
    took: float = 1,
    links: Sequence[tuple[str, int]] = (),
    **more: Any,
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(int(start * 1e6)),
        "endTimeUnixNano": str(int((start + took) * 1e6)),
        "links": [{"traceId": far, "spanId": f"{n:016x}"} for far, n in links],
    } | more


def document(service: str, *spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


MESSAGE = {"attributes": [{"key": "messaging.message.id", "value": {"stringValue": "event-1"}}]}
FAILED = {
    "status": {"code": "STATUS_CODE_ERROR"},
    "attributes": [{"key": "error.type", "value": {"stringValue": "40001"}}],
}
DOCUMENTS = [
    document("planner", span(EVENT, 1, "send tasks", kind=4, start=1, took=2, **MESSAGE)),
    document(
        "worker",
        span(EVENT, 2, "process tasks", parent=1, kind=5, start=2, took=9, links=[(BATCH, 10), (BATCH, 4)]),
        span(BATCH, 4, "process batch tasks", start=3, links=[(EVENT, 2)], **FAILED),
        span(BATCH, 10, "process batch tasks", start=5, took=5, links=[(EVENT, 2), (EVENT, 3)], droppedLinksCount=7),
        span(BATCH, 11, "COMMIT", parent=10, kind=3, start=7),
        span(BATCH, 12, "send invalidations", parent=10, kind=4, start=8),
    ),
    document(
        "updater",
        span(BATCH, 13, "process invalidations", parent=12, kind=5, start=8.5, links=[(UPDATE, 20)]),
        span(UPDATE, 20, "process batch invalidations", start=9, links=[(BATCH, 13)]),
    ),
]  # fmt: skip

# ruff: noqa: E501
TREE = f"""\
send tasks                                                                                  0.00 ms    2.00 ms   planner
└── process tasks                                                                           1.00 ms    9.00 ms   worker
    ├── ⇢ process batch tasks  [9 links back, trace {BATCH}]                                4.00 ms    5.00 ms   worker
    │     ├── COMMIT                                                                        6.00 ms    1.00 ms   worker
    │     └── send invalidations                                                            7.00 ms    1.00 ms   worker
    │         └── process invalidations                                                     7.50 ms    1.00 ms   updater
    │             └── ⇢ process batch invalidations  [1 link back, trace {UPDATE}]          8.00 ms    1.00 ms   updater
    └── ⇢ process batch tasks  [1 link back, trace {BATCH}; failed: 40001]                  2.00 ms    1.00 ms   worker
"""


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["trace", *arguments])
    return result.exit_code, "\n".join(" ".join(line.split()) for line in result.stdout.splitlines())


def squeezed(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


@pytest.mark.parametrize("which", ["event-1", EVENT, f"00-{EVENT}-{'1' * 16}-01"])
def test_an_event_leads_to_its_batch_and_to_the_cache_update(tmp_path: Path, which: str) -> None:
    file = tmp_path / "spans.json"
    file.write_text("\n".join(json.dumps(document) for document in DOCUMENTS))
    status, text = run(which, "--file", str(file))
    assert status == 0
    assert text.splitlines()[1:] == squeezed(TREE).splitlines()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    file = tmp_path / "spans.json"
    file.write_text(json.dumps(DOCUMENTS[0]))
    assert run("event-2", "--file", str(file)) == (1, "")
    file.write_text('{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}')
    assert CliRunner().invoke(app, ["trace", "x", "--file", str(file)]).exception is not None


@pytest.fixture
def jaeger() -> Iterator[str]:
    """Answers like Jaeger's query service."""
    spans = [s for d in DOCUMENTS for r in d["resourceSpans"] for sc in r["scopeSpans"] for s in sc["spans"]]

    def answer(path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        if path == "/api/services":
            return {"data": ["planner", "worker"]}
        if path == "/api/traces":
            known = json.loads(query["tags"][0]) == {"messaging.message.id": "event-1"}
            return {"data": [{"traceID": EVENT}] if known and query["service"] == ["planner"] else []}
        trace = path.removeprefix("/api/v3/traces/")
        found = [s for s in spans if s["traceId"] == trace]
        return {"result": document("any", *found)} if found else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = answer(parts.path, parse_qs(parts.query))
            body = json.dumps(found or {}).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_jaeger_is_asked(jaeger: str) -> None:
    status, text = run("event-1", "--jaeger", jaeger)
    assert status == 0
    assert [line.replace("any", "") for line in text.splitlines()[1:]] == [
        line.rsplit(" ", 1)[0] + " " for line in squeezed(TREE).splitlines()
    ]
    assert run("f" * 31 + "0", "--jaeger", jaeger)[0] == 1
