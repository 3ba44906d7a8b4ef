"""Releases of RabbitMQ that are known to trouble a service like ours: its release notes and advisories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Trouble:
    """Versions from `since` on and below `repaired`."""

    since: tuple[int, ...]
    repaired: tuple[int, ...]
    what: str
    remedy: str


TROUBLES: Final = (
    Trouble((0,), (3, 10), "no at-least-once dead-lettering: dead letters may be lost", "Upgrade."),
    Trouble((3, 10), (3, 11, 20), "a resource leak in at-least-once dead-lettering (#8799)",
            "Upgrade to 3.11.20 or later."),
    Trouble((3, 12), (3, 12, 2), "a resource leak in at-least-once dead-lettering (#8799)",
            "Upgrade to 3.12.2 or later."),
    Trouble((3, 10), (3, 10, 9), "a consumer that subscribes anew may close its channel (#5927)",
            "Upgrade to 3.10.9 or later."),
    Trouble((3, 10), (3, 11, 24), "management requests without a bound on their size (CVE-2023-46118)",
            "Upgrade to 3.11.24 or later; let nobody but monitoring reach the management port."),
    Trouble((3, 12), (3, 12, 7), "management requests without a bound on their size (CVE-2023-46118)",
            "Upgrade to 3.12.7 or later; let nobody but monitoring reach the management port."),
    Trouble((3, 10), (4, 0, 8), "credentials of refused management requests in its log (CVE-2025-50200)",
            "Upgrade to 4.0.8 or later."),
    Trouble((4, 0), (4, 0, 7), "logs of quorum queues may diverge: growth, lost messages (Ra below 2.15.2)",
            "Upgrade to 4.0.7 or later."),
    Trouble((4, 1), (4, 1, 3), "quorum queues leak file descriptors (ra#553)", "Upgrade to 4.1.3 or later."),
    Trouble((4, 3), (4, 3, 1), "a quorum queue may not recover after a crash, and files leak where "
            "dead-lettering is used (Ra below 3.1.7)", "Upgrade to 4.3.1 or later."),
)  # fmt: skip


def troubles(version: tuple[int, ...]) -> list[Trouble]:
    """What is known against a version."""
    return [trouble for trouble in TROUBLES if trouble.since <= version < trouble.repaired]
