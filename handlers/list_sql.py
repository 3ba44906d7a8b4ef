"""The orders that lists are read in, and the statements that are more than a SELECT from one table."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from handlers.selecting import Order

# PostgreSQL prunes partitions by the first term of each, and not by the comparison of rows.
TASK_ORDERS: Final = {
    "-created_at": Order(
        "created_at DESC, id DESC",
        {"created_at": datetime, "id": UUID},
        "created_at <= {0} AND (created_at, id) < ({0}, {1})",
    ),
    "created_at": Order(
        "created_at, id",
        {"created_at": datetime, "id": UUID},
        "created_at >= {0} AND (created_at, id) > ({0}, {1})",
    ),
}
AGENT_ORDERS: Final = {
    "id": Order("id", {"id": UUID}, "id > {0}"),
    "-created_at": Order(
        "created_at DESC, id DESC",
        {"created_at": datetime, "id": UUID},
        "created_at <= {0} AND (created_at, id) < ({0}, {1})",
    ),
    "-reputation_score": Order(
        "reputation_score DESC, created_at, id",
        {"reputation_score": int, "created_at": datetime, "id": UUID},
        "reputation_score <= {0} AND (reputation_score < {0} OR (created_at, id) > ({1}, {2}))",
    ),
}
# Ids are UUIDv7: their order is that of creation, and their index is there.
ROUND_ORDER: Final = Order("id DESC", {"created_at": datetime, "id": UUID}, "created_at <= {0} AND id < {1}")
VOTE_ORDER: Final = Order("agent_id", {"agent_id": UUID}, "agent_id > {0}")
EVENT_ORDER: Final = Order(
    "time, source, event_id",
    {"time": datetime, "source": str, "id": str},
    "time >= {0} AND (time, source, event_id) > ({0}, {1}, {2})",
)

# An agent's newest tasks, whatever their status: the index is by agent, status and date, so each status is
# asked for its newest, and the newest of those are the answer. Without that all of its tasks would be sorted.
AGENT_TASKS: Final = """
SELECT t.* FROM unnest('{{pending,assigned,processing,completed,failed,cancelled}}'::text[]) s (name)
CROSS JOIN LATERAL (
    SELECT {columns} FROM tasks WHERE {where} AND status = s.name ORDER BY {by} LIMIT {limit}
) t
ORDER BY {by} LIMIT {limit}
"""

# Agents of a page with their newest tasks: one statement, however many agents.
AGENTS_WITH_TASKS: Final = """
SELECT {agent_columns}, {task_columns}
FROM (SELECT {selected} FROM agents WHERE {where} ORDER BY {by} LIMIT {limit}) a
LEFT JOIN LATERAL (
    SELECT t.* FROM unnest('{{pending,assigned,processing,completed,failed,cancelled}}'::text[]) s (name)
    CROSS JOIN LATERAL (
        SELECT * FROM tasks WHERE agent_id = a.id AND status = s.name AND {confined}
        ORDER BY created_at DESC, id DESC LIMIT {each}
    ) t
    ORDER BY t.created_at DESC, t.id DESC LIMIT {each}
) t ON true
ORDER BY {by_a}, t.created_at DESC, t.id DESC
"""

# Tallies are looked up for the rounds of the page only.
ROUNDS_PAGE: Final = """
SELECT {columns} FROM (
    SELECT * FROM rounds WHERE {where} ORDER BY id DESC LIMIT {limit} OFFSET {offset}
) r {join}
ORDER BY r.id DESC
"""
ROUND_TALLIES: Final = """
CROSS JOIN LATERAL (
    SELECT coalesce(json_agg(json_build_object('choice', choice, 'weight', trim_scale(weight), 'votes', votes)
        ORDER BY weight DESC, choice), '[]') AS tallies
    FROM round_tallies WHERE round_id = r.id AND created_at = r.created_at AND votes > 0
) t
"""

# Stops reading large events once a page is full; sizes are those stored, so nothing is unpacked for it.
HISTORY_PAGE: Final = """
SELECT time, type, source, event_id AS id, data, recorded_at, trace_id, available FROM (
    SELECT *, count(*) OVER () AS available,
        sum(pg_column_size(data)) OVER (ORDER BY time, source, event_id ROWS UNBOUNDED PRECEDING)
            - pg_column_size(data) AS before
    FROM (
        SELECT time, type, source, event_id, data, recorded_at, trace_id FROM event_history
        WHERE {where} ORDER BY time, source, event_id LIMIT {limit}
    ) page
) sized
WHERE before < {bytes} ORDER BY time, source, event_id
"""
