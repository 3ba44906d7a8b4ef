"""What can be looked at: the paths of the read API that an invalidation concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from schemas.cache import AGENTS_TAG, LEADERBOARDS_TAG, Period


class Kind(StrEnum):
    TASK = "task"
    AGENT = "agent"
    ROUND = "round"
    VOTES = "votes of a round"
    AGENT_TASKS = "tasks of an agent"
    USER_TASKS = "tasks of a user"
    AGENTS = "agents"
    LEADERBOARD = "leaderboard"


PAGE: Final = 20
"""Rows of a first page, where a list is asked for without a limit."""

_PATHS: Final = {
    Kind.TASK: "/v1/tasks/{}",
    Kind.AGENT: "/v1/agents/{}",
    Kind.ROUND: "/v1/rounds/{}",
    Kind.VOTES: "/v1/rounds/{}/votes",
    Kind.AGENT_TASKS: "/v1/agents/{}/tasks",
    Kind.USER_TASKS: "/v1/users/{}/tasks",
    Kind.AGENTS: "/v1/agents",
    Kind.LEADERBOARD: "/v1/leaderboards/{}",
}

# What names an entity in a key or a tag, by what stands before its id.
_KEYS: Final = {
    "t": Kind.TASK,
    "ag": Kind.AGENT,
    "q:round": Kind.ROUND,
    "ut": Kind.USER_TASKS,
}
_TAGS: Final = {"agent": Kind.AGENT_TASKS, "user": Kind.USER_TASKS, "round": Kind.VOTES}


class Subject(NamedTuple):
    """One path; `id` is an entity's, or a period's name."""

    kind: Kind
    id: str

    @property
    def path(self) -> str:
        return _PATHS[self.kind].format(self.id)


ALL_AGENTS: Final = Subject(Kind.AGENTS, "")
LEADERBOARDS: Final = tuple(Subject(Kind.LEADERBOARD, period) for period in Period)


def subjects_of(keys: Iterable[object], tags: Iterable[object]) -> Iterator[Subject]:
    """The paths that these keys and tags say to be stale; what we cannot read is left out."""
    for key in keys:
        yield from _named(str(key), _KEYS)
    for tag in tags:
        if tag == AGENTS_TAG:
            yield ALL_AGENTS
        elif tag == LEADERBOARDS_TAG:
            yield from LEADERBOARDS
        else:
            yield from _named(str(tag), _TAGS)


def _named(text: str, kinds: dict[str, Kind]) -> Iterator[Subject]:
    prefix, _, name = text.rpartition(":")
    if prefix == "lb":  # lb:all_time
        yield from (board for board in LEADERBOARDS if board.id == name)
    elif text.startswith("lb:"):  # lb:daily:2026-11-23
        yield from (board for board in LEADERBOARDS if board.id == prefix.removeprefix("lb:"))
    elif (kind := kinds.get(prefix)) is not None and _is_id(name):
        yield Subject(kind, name)


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
