"""The baseline's SQL, one event at a time; a group of columns goes to the event with the greater stamp."""

from __future__ import annotations

from typing import Final

CLAIM: Final = "SELECT count(*) FROM claim_events(ARRAY[$1::uuid])"

HISTORY: Final = """
INSERT INTO event_history (time, entity_id, type, source, event_id, batch_id, trace_id, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


Groups = dict[str, tuple[str, ...]]


def _task(groups: Groups, instant: str = "") -> str:
    """An upsert of some groups: the stamp is $4 for all of them; $5 and on are their columns."""
    columns = [column for group in groups.values() for column in group]
    stamps = list(groups)
    names = ["id", "created_at", "updated_at", *stamps, *columns, *([instant] if instant else [])]
    values = ["$1", "$2", "$3", *("$4" for _ in stamps)]
    values += [f"${number + 5}" for number in range(len(columns))]
    values += ["$3"] if instant else []
    newer = [
        f"{column} = CASE WHEN excluded.{stamp} > coalesce(t.{stamp}, '') "
        f"THEN excluded.{column} ELSE t.{column} END"
        for stamp, group in groups.items()
        for column in (stamp, *group)
    ]
    newer.append("updated_at = greatest(t.updated_at, excluded.updated_at)")
    if instant:
        newer.append(f"{instant} = greatest(t.{instant}, excluded.{instant})")
    return (
        f"INSERT INTO tasks AS t ({', '.join(names)}) VALUES ({', '.join(values)}) "  # noqa: S608 - our own names
        f"ON CONFLICT (id, created_at) DO UPDATE SET {', '.join(newer)} RETURNING agent_id, user_id"
    )


_STATUS: Final[Groups] = {"status_stamp": ("status",)}
_OUTCOME: Final[Groups] = {"outcome_stamp": ("finished_at", "result", "error", "retryable", "reason")}
_AGENT: Final[Groups] = {"agent_stamp": ("agent_id",)}
_CREATED: Final[Groups] = {"created_stamp": ("kind", "user_id", "priority", "payload")}

TASK_CREATED: Final = _task(_CREATED | _STATUS)
TASK_CREATED_FOR: Final = _task(_CREATED | _STATUS | _AGENT)
TASK_ASSIGNED: Final = _task(_STATUS | _AGENT, "assigned_at")
TASK_STARTED: Final = _task(_STATUS, "started_at")
TASK_STARTED_BY: Final = _task(_STATUS | _AGENT, "started_at")
TASK_PROGRESSED: Final = _task({"progress_stamp": ("progress", "note")})
TASK_ENDED: Final = _task(_STATUS | _OUTCOME)

# Locks the round, a placeholder if it has not been opened yet.
LOCK_ROUND: Final = """
INSERT INTO rounds AS r (id, created_at) VALUES ($1, $2)
ON CONFLICT (id, created_at) DO UPDATE SET opened_at = r.opened_at
RETURNING options, quorum, decided_choice, decided_at
"""
OPEN_ROUND: Final = """
UPDATE rounds SET opened_stamp = $3, opened_at = $4, options = $5, quorum = $6, task_id = $7, closes_at = $8
WHERE id = $1 AND created_at = $2 AND $3 > coalesce(opened_stamp, '')
"""
CLOSE_ROUND: Final = """
UPDATE rounds SET closed_stamp = $3, closed_at = $4
WHERE id = $1 AND created_at = $2 AND $3 > coalesce(closed_stamp, '')
"""
VOTE: Final = """
INSERT INTO votes AS v (round_id, agent_id, created_at, stamp, cast_at, retracted, choice, weight, confidence,
    rationale)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (round_id, agent_id, created_at) DO UPDATE SET
    stamp = excluded.stamp, cast_at = excluded.cast_at, retracted = excluded.retracted,
    choice = excluded.choice, weight = excluded.weight, confidence = excluded.confidence,
    rationale = excluded.rationale
WHERE excluded.stamp > v.stamp
"""
TALLY: Final = """
INSERT INTO round_tallies (round_id, choice, created_at, weight, votes)
SELECT round_id, choice, created_at, sum(weight), count(*) FROM votes
WHERE round_id = $1 AND created_at = $2 AND NOT retracted
GROUP BY round_id, choice, created_at
ON CONFLICT (round_id, choice, created_at) DO UPDATE SET weight = excluded.weight, votes = excluded.votes
RETURNING choice, weight, votes
"""
DECIDE: Final = """
UPDATE rounds SET decided_choice = $3, decided_at = $4, decided_votes = $5, decided_tally = $6
WHERE id = $1 AND created_at = $2
"""
AGREEING: Final = """
SELECT agent_id FROM votes
WHERE round_id = $1 AND created_at = $2 AND choice = $3 AND NOT retracted ORDER BY agent_id
"""

LOCK_AGENTS: Final = """
INSERT INTO agent_registry AS r (agent_id) SELECT unnest($1::uuid[])
ON CONFLICT (agent_id) DO UPDATE SET agent_id = r.agent_id WHERE false
"""
ADD_REPUTATION: Final = (
    "UPDATE agents SET reputation_score = reputation_score + $2 WHERE id = ANY($1::uuid[])"
)
ADD_SCORES: Final = """
INSERT INTO agent_scores AS s (agent_id, day, completed, failed, agreed, points)
SELECT a, $2::date, $3::integer, $4::integer, $5::integer, $6::integer FROM unnest($1::uuid[]) AS a
ON CONFLICT (agent_id, day) DO UPDATE SET
    completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
    agreed = s.agreed + excluded.agreed, points = s.points + excluded.points
"""
UPDATE_AGENT: Final = """
UPDATE agents SET updated_at = greatest(updated_at, $2),
    status = CASE WHEN $3 > coalesce(status_stamp, '') THEN $4 ELSE status END,
    status_stamp = greatest(status_stamp, $3),
    name = coalesce($5, name), capabilities = coalesce($6, capabilities), is_active = coalesce($7, is_active),
    registered_stamp = coalesce($8, registered_stamp)
WHERE id = $1
"""
INSERT_AGENT: Final = """
INSERT INTO agents (id, created_at, updated_at, status_stamp, status, name, capabilities, is_active,
    registered_stamp, reputation_score)
VALUES ($1, $2, $2, $3, $4, $5, coalesce($6::text[], '{}'), coalesce($7::boolean, true), $8,
    coalesce((SELECT sum(points) FROM agent_scores WHERE agent_id = $1), 0))
"""
