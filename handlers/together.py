"""What is loaded for many keys by one statement: tasks and agents, as `Reads` has them one by one.

The cache loads again, in groups, what was invalidated and is read much; and a task that was created a moment
ago before anybody asks for it, since whoever has created one is likely to look at it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from handlers import views
from handlers.paging import encode
from handlers.reads import task_ttl
from handlers.selecting import Rows, instant_of
from schemas.cache import AGENT_PREFIX, TASK_PREFIX, Ttl, agent_key, task_key

AGENTS_BY_ID: Final = f"SELECT {', '.join(views.AGENT)} FROM agents WHERE id = ANY($1::uuid[])"  # noqa: S608

# Each key is looked up as if it were alone (OFFSET 0 keeps the planner from reading the range of new tasks
# instead, of which its statistics know nothing yet); the range says which partitions it is about.
TASKS_BY_ID: Final = f"""
SELECT {", ".join(f"task.{name}" for name in views.TASK)}
FROM unnest($1::uuid[], $2::timestamptz[]) AS wanted (id, created_at)
CROSS JOIN LATERAL (
    SELECT * FROM tasks
    WHERE tasks.id = wanted.id AND tasks.created_at = wanted.created_at
        AND tasks.created_at BETWEEN $3 AND $4
    OFFSET 0
) task
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Group:
    """Keys of one kind: see `streams.cache.found.Group`."""

    prefix: str
    load: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
    ttl: Callable[[bytes], int]
    born: Callable[[str], float | None]


def groups(rows: Rows) -> tuple[Group, ...]:
    """Tasks and agents, read from the primary."""

    async def load_tasks(keys: Sequence[str]) -> Mapping[str, bytes]:
        born = {id_: instant for id_ in _ids(keys) if (instant := instant_of(id_)) is not None}
        if not born:
            return {}
        times = list(born.values())
        found = await rows.fetch(TASKS_BY_ID, list(born), times, min(times), max(times))
        return {task_key(row["id"]): encode(row) for row in found}

    async def load_agents(keys: Sequence[str]) -> Mapping[str, bytes]:
        found = await rows.fetch(AGENTS_BY_ID, list(_ids(keys)))
        return {agent_key(row["id"]): encode(row) for row in found}

    return (
        Group(TASK_PREFIX.rstrip(":"), load_tasks, task_ttl, created),
        Group(AGENT_PREFIX.rstrip(":"), load_agents, lambda _: Ttl.AGENT_STATE, lambda _: None),
    )


def created(key: str) -> float | None:
    """When a task was created, in seconds since 1970, by its key; None for an id that no task can have."""
    text = key.removeprefix(TASK_PREFIX)
    if len(text) != 36 or text[14] != "7":
        return None
    try:
        return int(text[:8] + text[9:13], 16) / 1000
    except ValueError:
        return None


def _ids(keys: Sequence[str]) -> Iterator[UUID]:
    """Whoever else publishes invalidations may name keys of which we know nothing."""
    for key in keys:
        try:
            yield UUID(key.partition(":")[2])
        except ValueError:
            continue
