"""The bounds that checks judge by; the guide's where it has one."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares are fractions; times are in seconds, but for `ms` in a name."""

    check_seconds: float = 5.0
    """A check that takes longer is given up."""

    pool_use: float = 0.8
    connections: float = 0.8
    slow_query_ms: float = 100.0
    idle_in_transaction: float = 60.0
    long_transaction: float = 300.0
    endless_transaction: float = 1800.0
    """De-duplication holds as long as no transaction lives longer (schemas/sql/0001.engine.sql)."""
    lock_wait: float = 5.0
    large_table_rows: int = 10_000
    dead_share: float = 0.2
    bloat_bytes: int = 100 * MIB
    unused_after_days: float = 7.0
    """Before that an index that was never used may only not have been needed yet."""
    unused_bytes: int = MIB
    database_cache_hits: float = 0.95
    fewest_blocks: int = 10_000

    redis_memory: float = 0.8
    fragmentation: float = 1.5
    fragmented_bytes: int = 64 * MIB
    """Below it the ratio is mostly the allocator's own pages."""
    evictions: float = 0.05
    hits: float = 0.85
    fewest_lookups: int = 1000
    big_key_bytes: int = MIB
    long_key_bytes: int = 100
    sampled_keys: int = 2000
    ping_ms: float = 10.0
    slow_ping_ms: float = 100.0

    backlog: int = 100_000
    drain_seconds: float = 60.0
    redelivered: float = 0.05
    letters: int = 1
    node_share: float = 0.8

    api_p99: float = 0.5
    database_p99: float = 0.1
    event_age_p99: float = 1.0
    cache_age_p99: float = 2.0
    events_per_second: float = 1000.0
    statements_per_unit: float = 10.0
    """The guide's mark of N+1: one statement more often than this for one request or batch."""
    growth_bytes_per_hour: int = 200 * MIB
    growth_noise_bytes: int = 8 * MIB
    retries: float = 0.05
    failures: float = 0.001
    statement_errors: float = 0.01
    quarantined: float = 0.01
    response_bytes: int = MIB
    clock_seconds: float = 1.0
    broken_clock_seconds: float = 60.0
