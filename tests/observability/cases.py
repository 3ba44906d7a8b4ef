"""For each alert: series under which it fires, and others, close by, under which it must not.

Values are promtool's: "0+60x30" is a counter that grows by 60 a minute, "1x30" a gauge that stays. Everything
is looked at after `at` minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

HTTP = "streams_http_request_duration_seconds"


@dataclass(frozen=True)
class Case:
    fires: dict[str, str]
    quiet: dict[str, str]
    at: int = 30


def histogram(name: str, labels: str, *, slow: int, bound: str, fast: int = 100) -> dict[str, str]:
    """`fast` observations a minute up to `bound`, and `slow` ones of up to four times that."""
    comma = "," if labels else ""
    everything = fast + slow
    return {
        f'{name}_bucket{{{labels}{comma}le="{bound}"}}': f"0+{fast}x6000",
        f'{name}_bucket{{{labels}{comma}le="{4 * float(bound)}"}}': f"0+{everything}x6000",
        f'{name}_bucket{{{labels}{comma}le="+Inf"}}': f"0+{everything}x6000",
        f"{name}_count{{{labels}}}": f"0+{everything}x6000",
    }


def answers(status: str, rate: int) -> dict[str, str]:
    """Requests of a minute that end in a status."""
    labels = f'job="api",route="/v1/tasks",status_code="{status}"'
    return {f"{HTTP}_count{{{labels}}}": f"0+{rate}x6000"}


def punctual(rate: int) -> dict[str, str]:
    """Requests of a minute that are answered within half a second, of a thousand."""
    labels = 'job="api",route="/v1/tasks",status_code="200"'
    within = {f'{HTTP}_bucket{{{labels},le="0.5"}}': f"0+{rate}x6000"}
    return {**answers("200", 1000), **within}


def cache(hits: int, misses: int) -> dict[str, str]:
    return {
        'streams_cache_requests_total{level="redis",result="hit"}': f"0+{hits}x60",
        'streams_cache_requests_total{level="redis",result="miss"}': f"0+{misses}x60",
    }


def pool(size: int, idle: int) -> dict[str, str]:
    values = {"size": size, "idle": idle, "max": 10}
    return {f'streams_db_pool_{name}{{job="worker",instance="a"}}': f"{n}x60" for name, n in values.items()}


QUEUE = 'queue="tasks.record_tasks"'
SLOW_API = histogram(HTTP, 'route="/v1/tasks"', slow=5, bound="0.5")
ALL_UP = {f'up{{job="{job}",instance="a"}}': "1x60" for job in ("worker", "updater", "api")}
BURNT = {**answers("200", 900), **answers("503", 100)}
UNBURNT = {**answers("200", 100_000), **answers("503", 1)}

CASES = {
    "HighResponseTime": Case(SLOW_API, histogram(HTTP, 'route="/v1/tasks"', slow=0, bound="0.5")),
    "LowCacheHitRate": Case(cache(700, 300), cache(900, 100)),
    "SlowDatabaseQueries": Case(
        histogram("streams_db_query_duration_seconds", 'job="worker"', slow=5, bound="0.1"),
        histogram("streams_db_query_duration_seconds", 'job="worker"', slow=0, bound="0.1"),
    ),
    "ConnectionPoolExhaustion": Case(pool(10, 1), pool(2, 0)),
    "ConnectionPoolWaiting": Case(
        {'streams_db_pool_waiting{job="api"}': "3x60"}, {'streams_db_pool_waiting{job="api"}': "0 3 0x60"}
    ),
    "Deadlocks": Case(
        {'streams_db_errors_total{job="worker",code="40P01"}': "0+1x60"},
        {'streams_db_errors_total{job="worker",code="23505"}': "0+1x60"},
    ),
    "HighCpu": Case(
        {'process_cpu_seconds_total{job="worker"}': "0+58x60"},
        {'process_cpu_seconds_total{job="worker"}': "0+40x60"},
    ),
    "HighMemory": Case(
        {'process_resident_memory_bytes{job="worker"}': "400e6x60"},
        {'process_resident_memory_bytes{job="worker"}': "180e6x60"},
    ),
    "NoConsumers": Case(
        {f"rabbitmq_detailed_queue_consumers{{{QUEUE}}}": "0x60"},
        {
            f"rabbitmq_detailed_queue_consumers{{{QUEUE}}}": "1x60",
            'rabbitmq_detailed_queue_consumers{queue="quarantine"}': "0x60",
        },
    ),
    "ConsumersMissing": Case(
        {
            f'streams_consumers_expected{{{QUEUE},instance="a"}}': "1x60",
            f'streams_consumers_expected{{{QUEUE},instance="b"}}': "1x60",
            f'streams_consumers_reported{{{QUEUE},instance="a"}}': "1x60",
        },
        {
            f'streams_consumers_expected{{{QUEUE},instance="a"}}': "1x60",
            f'streams_consumers_reported{{{QUEUE},instance="a"}}': "1x60",
        },
    ),
    "Paused": Case(
        {f'streams_paused{{job="worker",{QUEUE}}}': "1x60"},
        {f'streams_paused{{job="worker",{QUEUE}}}': "0x60"},
    ),
    "BacklogGrowing": Case(
        {f"rabbitmq_detailed_queue_messages_ready{{{QUEUE}}}": "20000+100x60"},
        {f"rabbitmq_detailed_queue_messages_ready{{{QUEUE}}}": "90000-100x60"},
    ),
    "EventAgeGrowing": Case(
        histogram("streams_event_age_at_commit_seconds", QUEUE, slow=5, bound="60.0", fast=0),
        histogram("streams_event_age_at_commit_seconds", QUEUE, slow=0, bound="0.1"),
    ),
    "InvalidationLag": Case(
        histogram("streams_event_age_at_cache_seconds", "", slow=5, bound="10.0"),
        histogram("streams_event_age_at_cache_seconds", "", slow=0, bound="0.1"),
    ),
    "RetriesHigh": Case(
        {
            f"streams_retries_total{{{QUEUE}}}": "0+30x60",
            f'streams_batches_total{{{QUEUE},trigger="size"}}': "0+100x60",
        },
        {
            f"streams_retries_total{{{QUEUE}}}": "0+10x60",
            f'streams_batches_total{{{QUEUE},trigger="size"}}': "0+100x60",
        },
    ),
    "DeadLettersArriving": Case(
        {f'streams_quarantined_total{{{QUEUE},reason="invalid_event"}}': "0x25 1x30"},
        {f'streams_quarantined_total{{{QUEUE},reason="invalid_event"}}': "7x60"},
    ),
    "DeadLettersWaiting": Case(
        {"streams_quarantine_letters": "4x1000"}, {"streams_quarantine_letters": "4x600 0x400"}, at=900
    ),
    "OutboxNotDrained": Case(
        {"streams_outbox_oldest_seconds": "90x60"}, {"streams_outbox_oldest_seconds": "0.4x60"}
    ),
    "PartitionsRunningOut": Case(
        {'streams_partitions_ahead_months{table="tasks"}': "0x60"},
        {'streams_partitions_ahead_months{table="tasks"}': "1x60"},
        at=40,
    ),
    "SpansDropped": Case(
        {'streams_spans_dropped_total{job="worker",reason="queue_full"}': "0+5x60"},
        {'streams_spans_dropped_total{job="worker",reason="queue_full"}': "5x60"},
    ),
    "TargetDown": Case({'up{job="redis",instance="a"}': "0x60"}, {'up{job="redis",instance="a"}': "1x60"}),
    "RoleMissing": Case(ALL_UP | {'up{job="updater",instance="a"}': "0x60"}, ALL_UP),
    "NotReady": Case(
        {'streams_ready{job="worker"}': "0x60"}, {'streams_ready{job="worker"}': "1x26 0 0 1x30"}
    ),
    "Restarting": Case(
        {'process_start_time_seconds{job="worker",instance="a"}': "1x20 2x3 3x3 4x30"},
        {'process_start_time_seconds{job="worker",instance="a"}': "1x20 2x60"},
    ),
    "ServerDown": Case({'pg_up{job="postgres"}': "0x60"}, {'pg_up{job="postgres"}': "1x60"}),
    "RabbitmqAlarm": Case(
        {"rabbitmq_alarms_free_disk_space_watermark": "1x60"},
        {"rabbitmq_alarms_free_disk_space_watermark": "0x60"},
    ),
    "PostgresConnections": Case(
        {'pg_stat_activity_count{state="active"}': "90x60", "pg_settings_max_connections": "100x60"},
        {'pg_stat_activity_count{state="active"}': "20x60", "pg_settings_max_connections": "100x60"},
    ),
    "RedisMemory": Case(
        {"redis_memory_used_bytes": "250x60", "redis_memory_max_bytes": "256x60"},
        {"redis_memory_used_bytes": "250x60", "redis_memory_max_bytes": "0x60"},
    ),
    "ApiAvailabilityBurnFast": Case(BURNT, UNBURNT, at=70),
    "ApiAvailabilityBurnSlow": Case({**answers("200", 10_000), **answers("503", 20)}, UNBURNT, at=480),
    "ApiLatencyBurnFast": Case(punctual(700), punctual(999), at=70),
    "ApiLatencyBurnSlow": Case(punctual(980), punctual(999), at=480),
}
