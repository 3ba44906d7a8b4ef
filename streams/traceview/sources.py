"""Where spans can be read back: Jaeger's query API, or files in OTLP's JSON form."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from schemas.errors import StreamsError
from streams.telemetry.semconv import MESSAGE_ID
from streams.traceview.spans import Span, parse

_TIMEOUT: Final = 10.0


class TracesUnavailable(StreamsError):
    """What holds the traces cannot be reached, or answers with something else."""


class Traces(Protocol):
    """Finds traces. Raises TracesUnavailable."""

    def trace(self, trace_id: str) -> Sequence[Span]:
        """All its spans; none if it is not known."""
        ...

    def of_event(self, event_id: str) -> str | None:
        """The trace that the message with this id was processed in."""
        ...


class JaegerTraces:
    """Jaeger's query service.

    Args:
        url: of its user interface, as in "http://127.0.0.1:16686".
        days: how far back to look for an event.
    """

    def __init__(self, url: str, *, days: float = 7) -> None:
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT)
        self._days = days

    def trace(self, trace_id: str) -> Sequence[Span]:
        answer = self._get(f"/api/v3/traces/{trace_id}", {})
        return [] if answer is None else _read(answer.get("result", {}), "Jaeger")

    def of_event(self, event_id: str) -> str | None:
        services = (self._get("/api/services", {}) or {}).get("data") or []
        started = int((time.time() - self._days * 86_400) * 1e6)
        for service in sorted(services, key=lambda name: "worker" not in name):
            query = {
                "service": service,
                "tags": json.dumps({MESSAGE_ID: event_id}),
                "start": str(started),
                "end": str(int(time.time() * 1e6)),
                "limit": "1",
            }
            found = (self._get("/api/traces", query) or {}).get("data") or []
            if found:
                return str(found[0]["traceID"])
        return None

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        try:
            response = self._client.get(path, params=query)
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            response.raise_for_status()
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise TracesUnavailable(f"Jaeger does not answer: {type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise TracesUnavailable("Jaeger answers with something else than traces")
        return answer


class StoredTraces:
    """Spans from files: one JSON document a line, as a collector's file exporter writes them.

    Raises:
        TracesUnavailable: a file cannot be read, or holds something else.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_trace: dict[str, list[Span]] = {}
        self._by_event: dict[str, str] = {}
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
                documents = [json.loads(line) for line in lines if line.strip()]
            except (OSError, ValueError) as error:
                raise TracesUnavailable(f"{file}: no spans in OTLP's JSON form") from error
            for document in documents:
                self._add(_read(document, str(file)))

    def trace(self, trace_id: str) -> Sequence[Span]:
        return self._by_trace.get(trace_id, [])

    def of_event(self, event_id: str) -> str | None:
        return self._by_event.get(event_id)

    def _add(self, spans: Iterable[Span]) -> None:
        for span in spans:
            self._by_trace.setdefault(span.trace_id, []).append(span)
            if (event_id := span.attributes.get(MESSAGE_ID)) is not None:
                self._by_event.setdefault(event_id, span.trace_id)


def _read(document: Any, where: str) -> list[Span]:
    try:
        return list(parse(document))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TracesUnavailable(f"{where}: no spans in OTLP's JSON form") from error
