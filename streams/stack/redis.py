"""A private Redis."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from streams.stack.ports import LOOPBACK
from streams.stack.server import PROBE_SECONDS, Site, find_binary

_OVERRIDES = """\
bind {host}
port {port}
dir "{data}"
requirepass {password}
daemonize no
supervised no
pidfile ""
logfile ""
"""


class Redis:
    """Redis with a password, its append-only file in the stack's folder."""

    name = "redis"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._home = site.home(self.name)
        self._password = site.passwords[self.name]

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self._site.ports.redis}/0"

    def prepare(self) -> None:
        overrides = _OVERRIDES.format(
            host=LOOPBACK, port=self._site.ports.redis, data=self._home, password=self._password
        )
        self._site.write_config(self.name, "redis.conf", overrides)

    def command(self) -> Sequence[str]:
        return [find_binary("redis-server"), str(self._home / "redis.conf")]

    def variables(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._site.ports.redis), PROBE_SECONDS) as connection:
                connection.settimeout(PROBE_SECONDS)
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                with connection.makefile("rb") as answers:
                    # While it loads the append-only file it accepts connections and answers -LOADING.
                    return answers.read() == b"+OK\r\n+PONG\r\n+OK\r\n"
        except OSError:
            return False
