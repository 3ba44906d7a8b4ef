"""What becomes of leaderboards: updated, refused, built anew, dropped; and how large they are."""

from __future__ import annotations

from datetime import date

from prometheus_client import CollectorRegistry, Counter, Gauge


class Boards:
    """A `handlers.board_store.Meter`, by period: there are four."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._updates = Counter(
            "streams_board_updates",
            "Agents' scores for a leaderboard, by what came of them.",
            ["period", "result"],
            registry=registry,
        )
        self._builds = Counter(
            "streams_board_builds",
            "Builds of leaderboards from the database, by what came of them.",
            ["period", "result"],
            registry=registry,
        )
        self._drops = Counter(
            "streams_board_drops", "Leaderboards that were forgotten.", ["period"], registry=registry
        )
        self._agents = Gauge(
            "streams_board_agents",
            "Agents in the leaderboard, when this process last read or built it.",
            ["period"],
            registry=registry,
        )
        self._latest: dict[str, date] = {}

    def updated(self, period: str, written: int, refused: int) -> None:
        """An update wrote values of so many agents; those refused have a greater ticket already."""
        self._updates.labels(period, "written").inc(written)
        self._updates.labels(period, "refused").inc(refused)

    def built(self, period: str, result: str) -> None:
        """`done`, or `lost`: dropped meanwhile, or overtaken by a later build."""
        self._builds.labels(period, result).inc()

    def dropped(self, period: str) -> None:
        """A board, or one that was being built, is there no more."""
        self._drops.labels(period).inc()

    def sized(self, period: str, since: date, agents: int) -> None:
        """Of the latest board of a period: around its end there are two."""
        if since >= self._latest.get(period, since):
            self._latest[period] = since
            self._agents.labels(period).set(agents)
