"""A private Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.stack.ports import LOOPBACK
from streams.stack.server import PROBE_SECONDS, Site, find_binary

_OVERRIDES = """\
bind {host}
dir "{data}"
daemonize no
supervised no
pidfile ""
logfile ""
"""


_PLAINTEXT = """\
port {port}
requirepass {password}
"""
_TLS = """\
port 0
tls-port {port}
tls-ca-cert-file "{ca}"
tls-cert-file "{certificate}"
tls-key-file "{key}"
tls-auth-clients optional
aclfile "{users}"
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
        site = self._site
        scheme = "rediss" if site.hardening else "redis"
        query = site.query(ssl_ca_certs=str(site.hardening.ca)) if site.hardening else ""
        return f"{scheme}://:{self._password}@{LOOPBACK}:{site.ports.redis}/0{query}"

    def prepare(self) -> None:
        site, port = self._site, self._site.ports.redis
        overrides = _OVERRIDES.format(host=LOOPBACK, data=self._home)
        if site.hardening is None:
            overrides += _PLAINTEXT.format(port=port, password=self._password)
        else:
            overrides += _TLS.format(port=port, users=self._users(), **site.write_certificates(self.name))
        site.write_config(self.name, "redis.conf", overrides)

    def _users(self) -> Path:
        """The ACL file; an aclfile and requirepass exclude each other, so our own user stands in it."""
        assert self._site.hardening is not None
        given = self._site.hardening.redis_users
        others = [] if given is None else given.read_text().splitlines()
        lines = [line for line in others if not line.startswith("user default ")]
        own = f"user default on >{self._password} ~* &* +@all"
        return self._site.write(self.name, "users.acl", "\n".join([*lines, own, ""]))

    def command(self) -> Sequence[str]:
        return [find_binary("redis-server"), str(self._home / "redis.conf")]

    def variables(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        try:
            with self._site.connect(self._site.ports.redis) as connection:
                connection.settimeout(PROBE_SECONDS)
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                with connection.makefile("rb") as answers:
                    # While it loads the append-only file it accepts connections and answers -LOADING.
                    return answers.read() == b"+OK\r\n+PONG\r\n+OK\r\n"
        except OSError:
            return False
