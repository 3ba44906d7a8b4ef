"""All checks there are: importing this module registers them, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import ConfigurationError
from streams.doctor import host, reach
from streams.doctor.model import REGISTRY, Check, Section
from streams.doctor.postgres import indexes, schema, server, sessions, settings, statements, tables
from streams.doctor.rabbitmq import node, queues
from streams.doctor.redis import keys, memory
from streams.doctor.redis import server as redis_server
from streams.doctor.service import api, processes, speed

MODULES = (
    reach, sessions, statements, indexes, tables, schema, server, settings,
    redis_server, memory, keys, queues, node, processes, speed, api, host,
)  # fmt: skip


def all_checks() -> list[Check]:
    """By section, and within it by module, as registered."""
    sections, modules = list(Section), [module.__name__ for module in MODULES]
    return sorted(
        REGISTRY.values(),
        key=lambda check: (sections.index(check.section), modules.index(check.examine.__module__)),
    )


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks of these sections or with these names; a name may end before a dot. All, if none is given.

    Raises:
        ConfigurationError: no check is called so.
    """
    found = []
    for wanted in only:
        matching = [c for c in all_checks() if c.name == wanted or c.name.startswith(f"{wanted}.")]
        if not matching:
            sections = ", ".join(Section)
            raise ConfigurationError(
                f"--only {wanted[:60]!r} is no section ({sections}) and no check: see docs/doctor.md"
            )
        found += matching
    return [c for c in all_checks() if c in found] if only else all_checks()
