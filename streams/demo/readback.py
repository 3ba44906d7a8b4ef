"""Reads everything back through the HTTP API, and so through the caches, and compares."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self
from uuid import UUID

import httpx

from streams.demo.compare import Check, same
from streams.demo.expected import Decision, Row, Table, instant

ASKING_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Served:
    """What the API must answer, by entity."""

    tasks: Mapping[UUID, Row]
    rounds: Mapping[UUID, Row]
    agents: Mapping[UUID, Row]

    @classmethod
    def of(
        cls,
        tasks: Table,
        rounds: Table,
        tallies: Table,
        agents: Table,
        decided: Mapping[UUID, Decision],
        scores: Table,
    ) -> Self:
        sums: defaultdict[UUID, list[Row]] = defaultdict(list)
        for (round_id, choice), row in tallies.items():
            sums[round_id].append({"choice": choice, "weight": row["weight"], "votes": row["votes"]})
        return cls(
            {key[0]: row for key, row in tasks.items()},
            {key[0]: _round(row, sums[key[0]], decided.get(key[0])) for key, row in rounds.items()},
            {key[0]: _agent(key[0], row, scores) for key, row in agents.items()},
        )


async def read_back(base: str, served: Served) -> list[Check]:
    """GET every task, round and agent and compare what is served, cached or not, with the expected rows."""
    async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as client:
        return [
            await _check(client, "tasks over HTTP", "/v1/tasks/", served.tasks),
            await _check(client, "rounds over HTTP", "/v1/rounds/", served.rounds),
            await _check(client, "agents over HTTP", "/v1/agents/", served.agents),
        ]


async def _check(client: httpx.AsyncClient, what: str, prefix: str, rows: Mapping[UUID, Row]) -> Check:
    check, slots, caches = Check(what, compared=len(rows)), asyncio.Semaphore(ASKING_AT_ONCE), Counter[str]()

    async def ask(entity: UUID, row: Row) -> None:
        async with slots:
            try:
                answer = await client.get(f"{prefix}{entity}")
            except httpx.HTTPError as error:
                check.wrong(entity, f"the API does not answer: {type(error).__name__}")
                return
        cache = answer.headers.get("x-cache", "none").lower()
        caches[cache] += 1
        if answer.status_code != httpx.codes.OK:
            check.wrong(entity, f"the API answers {answer.status_code} (cache: {cache})")
            return
        for column, detail in served_differences(row, answer.json()):
            check.wrong(entity, f"served {column} {detail} (cache: {cache})")

    await asyncio.gather(*(ask(entity, row) for entity, row in rows.items()))
    check.hits = caches["hit"]
    return check


def served_differences(expected: Row, served: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Columns that differ, or are not served at all, with how."""
    return [
        (column, f"should be {value}, is {served.get(column, 'left out')}")
        for column, value in expected.items()
        if column not in served or not _same_served(value, served[column])
    ]


def _same_served(expected: Any, served: Any) -> bool:
    if isinstance(expected, datetime):
        return isinstance(served, str) and instant(served) == expected
    if isinstance(expected, UUID):
        return isinstance(served, str) and str(expected) == served
    if isinstance(expected, Decimal) and isinstance(served, str):
        return expected == Decimal(served)
    return same(expected, served)


def _round(row: Row, tallies: list[Row], decision: Decision | None) -> Row:
    """Tallies in the order they are served in: the greatest weight first, then by name."""
    return {
        **row,
        "tallies": sorted(tallies, key=lambda tally: (-tally["weight"], tally["choice"])),
        "decided_choice": decision.choice if decision else None,
        "decided_at": decision.decided_at if decision else None,
    }


def _agent(agent_id: UUID, row: Row, scores: Table) -> Row:
    points = sum(score["points"] for (owner, _), score in scores.items() if owner == agent_id)
    return {**row, "reputation_score": points}
