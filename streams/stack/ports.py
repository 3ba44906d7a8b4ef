"""Free ports for private servers."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from streams.stack.model import StackError

LOOPBACK = "127.0.0.1"
_DESIRED = range(20_000, 32_768)


@dataclass(frozen=True)
class Ports:
    """One port for each listener of the stack."""

    postgres: int
    redis: int
    amqp: int
    management: int
    prometheus: int
    distribution: int
    epmd: int


def pick_ports() -> Ports:
    """Choose ports that nobody listens on now.

    They lie below the range of outgoing connections: while a server is down for a test, a client that keeps
    connecting to a port inside that range can be connected to itself, and then holds the server's port.
    """
    wanted = len(fields(Ports))
    found = []
    for port in _candidates():
        if _is_free(port):
            found.append(port)
        if len(found) == wanted:
            return Ports(*found)
    raise StackError(f"no {wanted} free ports on {LOOPBACK}")


def _candidates() -> Iterator[int]:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = _DESIRED.stop
    quiet = range(_DESIRED.start, min(lowest, _DESIRED.stop))
    yield from random.sample(quiet, len(quiet))
    # A machine whose outgoing range was widened over ours: better such a port than none.
    busy = range(max(quiet.stop, _DESIRED.start), 60_000)
    yield from random.sample(busy, len(busy))


def _is_free(port: int) -> bool:
    # A server on the wildcard address holds the port, too.
    for host in (LOOPBACK, "0.0.0.0"):  # noqa: S104
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
