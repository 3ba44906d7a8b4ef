"""`python -m streams.bench.discarding worker` is `streams worker` with an exporter that throws spans away.

They are built all the same: it is an exporter of the SDK, which takes the SDK's finished spans.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from streams.telemetry import setup
from streams.telemetry.export import SdkExporter
from streams.telemetry.records import Spans


class Discard(SpanExporter):
    """Takes everything, keeps nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def _discard(kind: str, spans: Spans) -> SdkExporter:
    return SdkExporter(Discard(), spans)


if __name__ == "__main__":
    from streams.cli import main

    setup._exporter = _discard
    main()
