"""What the baseline does with one event, in a transaction; each returns the keys and tags that are stale."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid5

import orjson

from handlers.votes import DECISIONS
from schemas import cache
from schemas.agents import AgentEvent
from schemas.envelope import Event
from schemas.fields import dated
from schemas.tasks import TaskEvent
from schemas.votes import DecidedData, RoundDecided, VoteEvent
from streams.bench.plain import statements as sql

if TYPE_CHECKING:
    from streams.database import Connection


class Effect(NamedTuple):
    """What is to be published after the commit."""

    keys: set[str]
    tags: set[str]
    events: Sequence[Event] = ()


async def on_task(tx: Connection, event: TaskEvent) -> Effect:
    data, stamp = event.data, event.stamp
    head = (data.task_id, dated(data.task_id), event.time, stamp)
    if event.type == "task.created":
        body = (event.data.kind, event.data.user_id, event.data.priority, _json(event.data.payload))
        if event.data.agent_id is None:
            row = await tx.fetchrow(sql.TASK_CREATED, *head, *body, "pending")
        else:
            row = await tx.fetchrow(sql.TASK_CREATED_FOR, *head, *body, "assigned", event.data.agent_id)
    elif event.type == "task.assigned":
        row = await tx.fetchrow(sql.TASK_ASSIGNED, *head, "assigned", event.data.agent_id)
    elif event.type == "task.started":
        if event.data.agent_id is None:
            row = await tx.fetchrow(sql.TASK_STARTED, *head, "processing")
        else:
            row = await tx.fetchrow(sql.TASK_STARTED_BY, *head, "processing", event.data.agent_id)
    elif event.type == "task.progressed":
        row = await tx.fetchrow(sql.TASK_PROGRESSED, *head, event.data.progress, event.data.note)
    else:
        status = event.type.partition(".")[2]
        result = _json(getattr(data, "result", None))
        failure = getattr(data, "error", None)
        error = _json(failure.model_dump() if failure else None)
        extra = (getattr(data, "retryable", None), getattr(data, "reason", None))
        row = await tx.fetchrow(sql.TASK_ENDED, *head, status, event.time, result, error, *extra)
    assert row is not None
    agent_id, user_id = row
    keys, tags = {cache.task_key(data.task_id)}, set()
    if agent_id is not None:
        keys.add(cache.agent_stats_key(agent_id))
        tags.add(cache.agent_tag(agent_id))
    if user_id is not None:
        keys.add(cache.user_tasks_key(user_id))
        tags.add(cache.user_tag(user_id))
    if agent_id is not None and event.type in ("task.completed", "task.failed"):
        good = event.type == "task.completed"
        tags |= await _score(tx, [agent_id], event.time, good, not good, 0, 10 if good else -5)
        keys.add(cache.agent_key(agent_id))
    return Effect(keys, tags)


async def on_vote(tx: Connection, event: VoteEvent) -> Effect:
    round_id = event.data.round_id
    place = (round_id, dated(round_id))
    round_ = await tx.fetchrow(sql.LOCK_ROUND, *place)
    assert round_ is not None
    options, quorum = round_["options"], round_["quorum"]
    keys, tags = {cache.round_key(round_id)}, {cache.round_tag(round_id)}
    stamp = event.stamp
    if event.type == "round.opened":
        opened = event.data
        options, quorum = list(opened.options), opened.quorum
        await tx.execute(
            sql.OPEN_ROUND, *place, stamp, event.time, options, quorum, opened.task_id, opened.closes_at
        )
    elif event.type == "round.closed":
        await tx.execute(sql.CLOSE_ROUND, *place, stamp, event.time)
        return Effect(keys, tags)
    else:
        agent_id, cast = event.data.agent_id, event.data if event.type == "vote.cast" else None
        said = (cast.choice, cast.weight, cast.confidence, cast.rationale) if cast else (None,) * 4
        await tx.execute(sql.VOTE, round_id, agent_id, place[1], stamp, event.time, cast is None, *said)
        keys.add(cache.agent_stats_key(agent_id))
        tags.add(cache.agent_tag(agent_id))
        if cast and round_["decided_choice"] == cast.choice:
            tags |= await _score(tx, [agent_id], round_["decided_at"], 0, 0, 1, 3)
    tally = {row["choice"]: row for row in await tx.fetch(sql.TALLY, *place)}
    counted = [tally[option] for option in options or () if option in tally]
    if quorum is None or round_["decided_at"] or sum(row["weight"] for row in counted) < quorum:
        return Effect(keys, tags)
    now = datetime.now(UTC)
    choice = max(counted, key=lambda row: row["weight"])["choice"]
    votes = sum(row["votes"] for row in counted)
    weights = {row["choice"]: row["weight"] for row in counted}
    await tx.execute(
        sql.DECIDE, *place, choice, now, votes, _json({name: float(w) for name, w in weights.items()})
    )
    agreeing = [row["agent_id"] for row in await tx.fetch(sql.AGREEING, *place, choice)]
    tags |= await _score(tx, agreeing, now, 0, 0, 1, 3)
    keys |= {key(agent) for agent in agreeing for key in (cache.agent_key, cache.agent_stats_key)}
    decided = RoundDecided(
        specversion="1.0",
        id=str(uuid5(DECISIONS, str(round_id))),
        source="plain",
        time=now,
        data=DecidedData(round_id=round_id, choice=choice, tally=weights, votes=votes, decided_at=now),
    )
    return Effect(keys, tags, [decided])


async def on_agent(tx: Connection, event: AgentEvent) -> Effect:
    agent_id = event.data.agent_id
    await tx.execute(sql.LOCK_AGENTS, [agent_id])
    about: tuple[object, ...]
    if event.type == "agent.registered":
        data = event.data
        status = "active" if data.is_active else "inactive"
        about = (data.name, list(data.capabilities), data.is_active, event.stamp)
    else:
        status, about = str(event.data.status), (None,) * 4
    values = (agent_id, event.time, event.stamp, status, *about)
    if await tx.execute(sql.UPDATE_AGENT, *values) == "UPDATE 0":
        await tx.execute(sql.INSERT_AGENT, *values)
    keys = {cache.agent_key(agent_id), cache.agent_stats_key(agent_id)}
    return Effect(keys, {cache.agent_tag(agent_id), cache.AGENTS_TAG})


async def _score(
    tx: Connection, agents: list[UUID], at: datetime, completed: int, failed: int, agreed: int, points: int
) -> set[str]:
    await tx.execute(sql.LOCK_AGENTS, agents)
    await tx.execute(sql.ADD_REPUTATION, agents, points)
    day = at.astimezone(UTC).date()
    await tx.execute(sql.ADD_SCORES, agents, day, int(completed), int(failed), agreed, points)
    return {cache.AGENTS_TAG, cache.LEADERBOARDS_TAG, *map(cache.agent_tag, agents)}


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
