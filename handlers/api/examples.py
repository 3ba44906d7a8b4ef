"""An example of each answer, for the OpenAPI document; a test holds them against the schemas."""

from __future__ import annotations

from typing import Any, Final

from handlers import views

_AGENT_ID: Final = "5f0c6a4e-6c55-4f0b-9d0e-3a1f6f6f2f01"
_USER_ID: Final = "0d9bb3a8-52c4-4a0a-8f39-2c6ce1f5a802"
_TASK_ID: Final = "019d2f6b-1c00-7a3e-8b5f-8f3c2f8a9d03"
_ROUND_ID: Final = "019d2f6b-2f88-7c11-9a40-1d2e3f4a5b04"
_CURSOR: Final = "WyI0ZjJhOTBjMWI3ZTMiLDE3NjM5NzEyMDAwMDAwMDBd"

_AGENT: Final = {
    "id": _AGENT_ID,
    "status": "processing",
    "name": "scout",
    "capabilities": ["plan", "search"],
    "is_active": True,
    "reputation_score": 1250,
    "created_at": "2026-11-01T08:00:00Z",
    "updated_at": "2026-11-24T08:00:01.250000Z",
}
_SUMMARY: Final = {
    "id": _TASK_ID,
    "created_at": "2026-11-24T08:00:00Z",
    "status": "completed",
    "kind": "research",
    "agent_id": _AGENT_ID,
    "user_id": _USER_ID,
    "priority": 3,
    "progress": 1.0,
    "note": None,
    "error": None,
    "retryable": None,
    "reason": None,
    "assigned_at": "2026-11-24T08:00:00.100000Z",
    "started_at": "2026-11-24T08:00:00.400000Z",
    "finished_at": "2026-11-24T08:00:12.900000Z",
    "updated_at": "2026-11-24T08:00:12.900000Z",
}
_ROUND: Final = {
    "id": _ROUND_ID,
    "created_at": "2026-11-24T08:00:05Z",
    "task_id": _TASK_ID,
    "options": ["accept", "revise"],
    "quorum": 2.5,
    "opened_at": "2026-11-24T08:00:05Z",
    "closes_at": None,
    "closed_at": None,
    "decided_choice": "accept",
    "decided_at": "2026-11-24T08:00:09Z",
    "decided_votes": 3,
    "decided_tally": {"accept": "2.500000", "revise": "1.000000"},
    "tallies": [
        {"choice": "accept", "weight": 2.5, "votes": 2},
        {"choice": "revise", "weight": 1, "votes": 1},
    ],
}
_VOTE: Final = {
    "agent_id": _AGENT_ID,
    "choice": "accept",
    "weight": 1.5,
    "confidence": 0.9,
    "rationale": "the sources agree",
    "cast_at": "2026-11-24T08:00:08Z",
    "late": False,
}
_EVENT: Final = {
    "time": "2026-11-24T08:00:12.900000Z",
    "type": "task.completed",
    "source": "orchestrator",
    "id": "e-4711",
    "data": {"task_id": _TASK_ID, "result": {"pages": 12}},
    "recorded_at": "2026-11-24T08:00:12.915000Z",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
}
_SCORE: Final = {"points": 37, "completed": 4, "failed": 1, "agreed": 0}
_DAY: Final = {**_SCORE, "success_ratio": 0.8}
_EVER: Final = {"points": 1250, "completed": 120, "failed": 10, "agreed": 33, "success_ratio": 0.9231}
_MORE: Final = {"cursor": _CURSOR, "has_more": True}
_LAST: Final = {"cursor": None, "has_more": False}

EXAMPLES: Final[dict[type, Any]] = {
    views.Agent: _AGENT,
    views.AgentPage: {"data": [_AGENT], "pagination": _MORE},
    views.AgentStats: {
        "agent_id": _AGENT_ID,
        "tasks": {
            "pending": 0,
            "assigned": 2,
            "processing": 1,
            "cancelled": 3,
            "completed": 120,
            "failed": 10,
        },
        "success_ratio": 0.9231,
        "periods": {
            "daily": {"start": "2026-11-24", **_DAY},
            "weekly": {"start": "2026-11-23", **_DAY},
            "monthly": {"start": "2026-11-01", **_DAY},
            "all_time": {"start": None, **_EVER},
        },
        "recent": {"tasks": 100, "p50_seconds": 11.8, "p95_seconds": 42.0},
    },
    views.Task: _SUMMARY | {"payload": {"topic": "owls"}, "result": {"pages": 12}},
    views.TaskPage: {"data": [_SUMMARY], "pagination": _MORE},
    views.HistoryPage: {"data": [_EVENT], "pagination": _LAST},
    views.Round: _ROUND,
    views.RoundPage: {"data": [_ROUND], "pagination": _MORE},
    views.VotePage: {"data": [_VOTE], "pagination": _LAST},
    views.Neighbours: {
        "period": "weekly",
        "start": "2026-11-23",
        "end": "2026-11-30",
        "agent_id": _AGENT_ID,
        "rank": 1,
        "agents": 1,
        "data": [{"rank": 1, "agent_id": _AGENT_ID, "name": "scout", **_SCORE}],
    },
    views.Leaderboard: {
        "period": "weekly",
        "start": "2026-11-23",
        "end": "2026-11-30",
        "data": [{"rank": 1, "agent_id": _AGENT_ID, "name": "scout", **_SCORE}],
    },
}
