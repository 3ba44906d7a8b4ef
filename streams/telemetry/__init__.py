"""Spans, metrics and logs: what an operator sees of every hop.

    telemetry = Telemetry.from_environment("worker", link_limit=policy.size)
    tracing, metrics = telemetry.tracing, telemetry.metrics

    # one per delivery; for an array, one more per event that carries a traceparent of its own
    message = tracing.message(queue, received_ns=time.time_ns(), traceparent=..., events=len(events))
    event = tracing.event(message, traceparent=...)

    # one per attempt; a batch that was rolled back is traced again, with the same messages
    trace = tracing.batch("tasks", queue, [item.trace for item in items])
    with connection.query_logger(trace.on_query): ...
    with trace.send("invalidations") as step:
        await publish(message, step.inject(headers))
    with trace.settle(count): ...
    trace.end(trigger="size", size=500, repeats=3)

Nothing reaches the exporter before `end`. No global state: a process may hold several instances.
"""

from streams.telemetry.batch import BatchTrace
from streams.telemetry.context import TraceContext, parse_traceparent
from streams.telemetry.logs import bind_trace, configure_logging, log_context
from streams.telemetry.metrics import Metrics, QueueMetrics, exemplar
from streams.telemetry.setup import Telemetry
from streams.telemetry.spans import Tracing
from streams.telemetry.steps import MessageTrace, Step

__all__ = [
    "BatchTrace",
    "MessageTrace",
    "Metrics",
    "QueueMetrics",
    "Step",
    "Telemetry",
    "TraceContext",
    "Tracing",
    "bind_trace",
    "configure_logging",
    "exemplar",
    "log_context",
    "parse_traceparent",
]
