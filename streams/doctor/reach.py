"""Whether each server can be examined at all; where it cannot, the rest of its section is unknown."""

from __future__ import annotations

from collections.abc import Callable

from streams.doctor.model import Finding, Section, check, critical, ok, unknown
from streams.doctor.patient import Patient
from streams.doctor.words import duration

UNNAMED = "not named: set"
"""How the reason begins when nobody told where a server is."""


def _register(section: Section, remedy: str, shown: Callable[[Patient], str]) -> None:
    @check(
        f"{section}.reachable",
        "whether it answers, with this login",
        target="yes",
        remedy=remedy,
        page="docs/runbook.md#serverdown",
    )
    async def examine(patient: Patient) -> Finding:
        why = patient.absent.get(section)
        if why is None:
            return ok(shown(patient))
        return unknown(why) if why.startswith(UNNAMED) else critical(why)


_register(
    Section.POSTGRES,
    "Start it, or look at DATABASE_URL and pg_hba.conf. Workers wait, and lose nothing.",
    lambda p: f"as {p.postgres.facts['role']}, up for {duration(p.postgres.facts['up'])}",
)
_register(
    Section.REDIS,
    "Start it, or look at REDIS_URL. Reads go to PostgreSQL until then; invalidations wait.",
    lambda p: f"up for {duration(p.redis.number('uptime_in_seconds'))}",
)
_register(
    Section.RABBITMQ,
    "Enable rabbitmq_management and set STREAMS_MANAGEMENT_URL to it, with a user that has the "
    "tag monitoring.",
    lambda p: f"{len(p.rabbitmq.nodes)} node{'s' if len(p.rabbitmq.nodes) != 1 else ''}",
)
