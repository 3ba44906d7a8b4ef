"""A private PostgreSQL."""

from __future__ import annotations

import functools
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.stack.model import StackError
from streams.stack.ports import LOOPBACK
from streams.stack.server import DATABASE, PROBE_SECONDS, USER, Site, find_binary

_DEBIAN = Path("/usr/lib/postgresql")
_OLDEST = 15

_OVERRIDES = """\
data_directory = '{data}'
hba_file = '{hba}'
ident_file = '{ident}'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''                  # their paths are limited to 107 bytes; nobody here needs them
"""
_TLS = """\
ssl = on
ssl_ca_file = '{ca}'
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
ssl_min_protocol_version = 'TLSv1.2'
"""
_HBA = f"host all all {LOOPBACK}/32 scram-sha-256\n"
_HBA_TLS = f"hostssl all all {LOOPBACK}/32 scram-sha-256\n"


class Postgres:
    """PostgreSQL 15 or newer, with a superuser and a database of ours, on TCP only."""

    name = "postgres"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._home = site.home(self.name)
        self._data = self._home / "data"

    @property
    def url(self) -> str:
        site = self._site
        query = (
            site.query(sslmode="verify-full", sslrootcert=str(site.hardening.ca)) if site.hardening else ""
        )
        return f"postgresql://{USER}:{site.passwords[self.name]}@{LOOPBACK}:{site.ports.postgres}/{DATABASE}{query}"

    def prepare(self) -> None:
        if not self._data.exists():
            self._create()
        # No server of this folder runs; if its pid is another's by now, PostgreSQL would believe the file.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        hardened = self._site.hardening is not None
        hba = _HBA_TLS if hardened else _HBA
        files = {name: self._home / name for name in ("pg_hba.conf", "pg_ident.conf")}
        for path, text in zip(files.values(), (hba, ""), strict=True):
            path.write_text(text)
            self._site.account.own(path)
        overrides = _OVERRIDES.format(
            data=self._data, hba=files["pg_hba.conf"], ident=files["pg_ident.conf"],
            host=LOOPBACK, port=self._site.ports.postgres,
        )  # fmt: skip
        if hardened:
            overrides += _TLS.format(**self._site.write_certificates(self.name))
        self._site.write_config(self.name, "postgresql.conf", overrides)

    def _create(self) -> None:
        # Under another name until it is whole: a killed initdb leaves a folder that looks like a cluster.
        unfinished, password_file = self._home / "data.new", self._home / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self._site.passwords[self.name])
        self._site.account.own(password_file)
        try:
            self._site.run(
                self.name,
                [
                    self._binary("initdb"), "--pgdata", str(unfinished), "--username", USER,
                    "--pwfile", str(password_file), "--auth", "scram-sha-256", "--encoding", "UTF8",
                    "--locale", "C.UTF-8", "--data-checksums",
                ],
            )  # fmt: skip
        finally:
            password_file.unlink()
        single_user = [self._binary("postgres"), "--single", "-D", str(unfinished), "postgres"]
        self._site.run(self.name, single_user, stdin=f"CREATE DATABASE {DATABASE}\n")
        unfinished.rename(self._data)

    def command(self) -> Sequence[str]:
        return [
            self._binary("postgres"),
            "-D",
            str(self._data),
            "-c",
            f"config_file={self._home}/postgresql.conf",
        ]

    def variables(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        address = (LOOPBACK, self._site.ports.postgres)
        mode = "require" if self._site.hardening else "disable"
        try:
            socket.create_connection(address, timeout=PROBE_SECONDS).close()
            answer = subprocess.run(
                [self._binary("psql"), "-XAtw", "-h", LOOPBACK, "-p", str(address[1]), "-U", USER,
                 "-d", DATABASE, "-c", "SELECT 1"],
                env={"PGPASSWORD": self._site.passwords[self.name], "PGSSLMODE": mode, "HOME": "/"},
                capture_output=True, timeout=PROBE_SECONDS, check=False, cwd="/",
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return answer.stdout.strip() == b"1"

    def _binary(self, name: str) -> str:
        return find_binary(name, self._binaries)

    @functools.cached_property
    def _binaries(self) -> Path:
        if (self._data / "PG_VERSION").exists():
            major = int((self._data / "PG_VERSION").read_text())
            if major in (found := _installed()):
                return found[major]
            raise StackError(
                f"{self._data} was made by PostgreSQL {major}, which is not installed any more: "
                f"install it, or remove the folder"
            )
        found = _installed()
        if not found or max(found) < _OLDEST:
            raise StackError(
                f"PostgreSQL {_OLDEST} or newer is not installed: run `make setup`, "
                "or set AMQP_URL, DATABASE_URL and REDIS_URL to servers"
            )
        return found[max(found)]


@functools.cache
def _installed() -> dict[int, Path]:
    """Folders of PostgreSQL's programs by major version; Debian's lie off the PATH."""
    folders = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    found = {}
    for folder in folders:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
        if match := re.search(r"\b(\d+)", said.stdout):
            found[int(match[1])] = folder
    return found
