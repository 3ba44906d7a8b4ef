"""Does what is stored agree with what was published, event by event and row by row?

The ledger is the only source of truth; nothing here imports a handler. Entities of other producers in
the same database are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from aio_pika.abc import AbstractConnection

from streams.demo import expected as fold
from streams.demo import letters
from streams.demo.compare import (
    Check,
    Difference,
    compare_announcements,
    compare_decisions,
    compare_history,
    compare_letters,
    compare_reputation,
    compare_table,
)
from streams.demo.expected import Decision, Table
from streams.demo.ledger import Key, Ledger, Sent
from streams.demo.readback import Served, read_back
from streams.demo.stored import Recorded, Stored, decisions

if TYPE_CHECKING:
    import asyncpg

History = list[tuple[Key, Recorded]]


@dataclass(slots=True)
class Expected:
    """The tables as they must be; scores depend on the stored decisions."""

    tasks: Table
    rounds: Table
    votes: Table
    tallies: Table
    agents: Table

    @classmethod
    def of(cls, good: Iterable[Sent]) -> Expected:
        events = list(good)
        rounds = fold.fold_rounds(events)
        votes = fold.fold_votes(events, rounds)
        return cls(
            tasks=fold.fold_tasks(events),
            rounds=rounds,
            votes=votes,
            tallies=fold.fold_tallies(votes, rounds),
            agents=fold.fold_agents(events),
        )

    def scores(self, decided: dict[UUID, Decision]) -> Table:
        return fold.fold_scores(self.tasks, self.votes, self.rounds, decided)


@dataclass(slots=True)
class Verdict:
    """The outcome: what was compared, what differs, what could not be looked at."""

    checks: list[Check] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    history: History = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return not any(check.differences for check in self.checks)

    @property
    def compared(self) -> int:
        return sum(check.compared for check in self.checks)

    @property
    def differences(self) -> list[Difference]:
        return [difference for check in self.checks for difference in check.differences]


async def verify(
    ledger: Ledger,
    connection: asyncpg.Connection[asyncpg.Record],
    broker: AbstractConnection | None = None,
    api: str | None = None,
) -> Verdict:
    """Compare everything that can be reached.

    Args:
        broker: where quarantine is looked into; None leaves that out.
        api: base URL of the read API, through which the caches are checked; None leaves that out.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot be read.
        ConfigurationError: the broker has no quarantine queue.
    """
    expected = Expected.of(ledger.good.values())
    verdict = Verdict()
    decided, scores = await _stored_rows(ledger, expected, Stored(connection), verdict)
    if ledger.watched:
        verdict.checks.append(compare_announcements(decided, ledger.decided, expected.rounds))
    else:
        verdict.not_checked.append("round.decided events (nobody listened during the run)")
    if broker is not None:
        found = await letters.peek(broker, {sent.id for sent in ledger.bad.values()})
        verdict.checks.append(compare_letters(ledger.bad, found))
    else:
        verdict.not_checked.append("quarantine (AMQP_URL is not set)")
    if api is not None:
        verdict.checks += await read_back(
            api,
            Served.of(expected.tasks, expected.rounds, expected.tallies, expected.agents, decided, scores),
        )
    else:
        verdict.not_checked.append("caches (no URL of the read API)")
    return verdict


async def _stored_rows(
    ledger: Ledger, expected: Expected, stored: Stored, verdict: Verdict
) -> tuple[dict[UUID, Decision], Table]:
    tasks = await stored.tasks(_named(ledger, "task_id", expected.tasks))
    round_ids = _named(ledger, "round_id", expected.rounds)
    rounds = await stored.rounds(round_ids)
    agents = await stored.agents(_keys(expected.agents))
    decided = decisions(rounds)
    scores = expected.scores(decided)
    verdict.history = await stored.history(ledger.sources)
    verdict.checks += [
        compare_history(ledger.good, ledger.bad, verdict.history),
        compare_table("tasks", expected.tasks, tasks),
        compare_table("rounds", expected.rounds, rounds),
        compare_table("votes", expected.votes, await stored.votes(round_ids)),
        compare_table("tallies", expected.tallies, await stored.tallies(round_ids)),
        compare_decisions(expected.rounds, expected.tallies, decided),
        compare_table("agents", expected.agents, agents),
        compare_table("scores", scores, await stored.scores(_score_owners(expected, scores))),
        compare_reputation(agents, scores),
    ]
    return decided, scores


def _named(ledger: Ledger, name: str, table: Table) -> set[UUID]:
    """Every entity of the good events, and those that only bad events name: they must not exist."""
    ids = _keys(table)
    for sent in ledger.bad.values():
        value = sent.data.get(name)
        if isinstance(value, str):
            ids.add(UUID(value))
    return ids


def _keys(table: Table) -> set[UUID]:
    return {key[0] for key in table}


def _score_owners(expected: Expected, scores: Table) -> set[UUID]:
    voters = {agent for _, agent in expected.votes}
    workers = {row["agent_id"] for row in expected.tasks.values() if row["agent_id"] is not None}
    return voters | workers | _keys(scores)


def first_differences(differences: Sequence[Difference], limit: int = 20) -> list[str]:
    """The first few, one line each, and how many more there are."""
    lines = [f"{d.what}: {d.key}: {d.detail}" for d in differences[:limit]]
    if len(differences) > limit:
        lines.append(f"... and {len(differences) - limit} more")
    return lines
