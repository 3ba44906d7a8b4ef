"""A PostgreSQL primary with a streaming standby."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg

from streams.stack.ports import LOOPBACK
from streams.stack.postgres import Postgres
from tests.cluster.nodes import Nodes, NodeSite, nodes, wait_for

_REPLICATION: Final = f"host replication all {LOOPBACK}/32 scram-sha-256\n"


class Node(Postgres):
    """One of the two: as infra/postgres/postgresql.conf has it, and ready to be either."""

    def __init__(self, site: NodeSite, copy_of: Node | None = None) -> None:
        super().__init__(site)
        self._copy_of = copy_of

    def prepare(self) -> None:
        super().prepare()
        hba = self._home / "pg_hba.conf"
        hba.write_text(hba.read_text() + _REPLICATION)

    def command(self) -> Sequence[str]:
        # Small: two of them share a machine with everything else.
        return [
            *super().command(),
            "-c",
            "shared_buffers=64MB",
            "-c",
            "max_wal_senders=4",
            "-c",
            "hot_standby=on",
        ]

    def _create(self) -> None:
        if self._copy_of is None:
            super()._create()
            return
        program = self._binary("pg_basebackup")
        copy = ["--dbname", self._copy_of.url, "--pgdata", str(self._data), "--write-recovery-conf"]
        self._site.run(self.name, [program, *copy, "--checkpoint", "fast", "--wal-method", "stream"])


class Pair:
    """A primary `one` and its standby `two`, until the standby is promoted."""

    def __init__(self, group: Nodes) -> None:
        self.group = group
        self._one = Node(group.site("one"))
        self._two = Node(group.site("two"), self._one)

    def start(self, *, synchronous: bool) -> None:
        self.group.start("one", self._one)
        self.group.ready("one")
        self.group.start("two", self._two)
        self.group.ready("two")
        wait_for(self._streams, "the standby streams")
        self.replicate(synchronous=synchronous)

    def replicate(self, *, synchronous: bool) -> None:
        """Whether a commit waits for the standby's disk."""
        with _administrator(self._one.url) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{'*' if synchronous else ''}'")
            connection.execute("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        """Both hosts; who connects looks for the primary."""
        parts = urlsplit(self._one.url)
        user, _, host = parts.netloc.rpartition("@")
        both = f"{user}@{host},{urlsplit(self._two.url).netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=both, query="target_session_attrs=primary"))

    def promote(self) -> None:
        """The standby becomes the primary."""
        with _administrator(self._two.url) as connection:
            connection.execute("SELECT pg_promote(true, 60)")

    def stall(self) -> None:
        """Nothing leaves the primary for the standby any more, as if the link between them had narrowed to
        nothing. (A standby that is frozen itself still has what its kernel has received.)"""
        self.group.signal_children("one", "walsender", signal.SIGSTOP)

    def go_on(self) -> None:
        self.group.signal_children("one", "walsender", signal.SIGCONT)

    def waiting_commits(self) -> int:
        """Transactions that wait for the standby."""
        with _administrator(self._one.url) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            ).fetchone()
            return found[0] if found else 0

    def _streams(self) -> bool:
        with _administrator(self._one.url) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            ).fetchone()
            return bool(found and found[0])


def _administrator(url: str) -> psycopg.Connection[tuple[int]]:
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


@contextmanager
def pair(*, synchronous: bool) -> Iterator[Pair]:
    with nodes("cluster-postgres", {"postgres": "replicated"}) as group:
        here = Pair(group)
        here.start(synchronous=synchronous)
        yield here
