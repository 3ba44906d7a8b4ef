"""Processes of ours on this machine, and where they serve HTTP; found in /proc, without asking them.

So `streams top` and `streams doctor` find a `streams run` whose ports nobody chose. Another user's
processes, or those in a container of their own, are not seen: name their URLs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROLES: Final = ("worker", "updater", "api")

_LISTENING: Final = "0A"
_EVERYWHERE: Final = {"00000000": "127.0.0.1", "0" * 32: "127.0.0.1"}


def processes() -> dict[str, list[str]]:
    """Base URLs by role, in the order of the processes' ids; empty where there is no /proc."""
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    for pid, role in _ours():
        addresses = _listening(pid)
        own = _own_port(pid) if len(addresses) > 1 else None
        for address in addresses:
            if own is None or address.endswith(f":{own}"):
                found[role].append(f"http://{address}")
    return found


def _own_port(pid: int) -> str | None:
    """Where a process answers for itself alone, if it shares its other port: see streams.sharing."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    name = b"STREAMS_API_METRICS_PORT="
    ports = [word.removeprefix(name).decode(errors="replace") for word in variables if word.startswith(name)]
    return next((port for port in ports if port.strip("0")), None)


def role_of(command: Sequence[str]) -> str | None:
    """Which of our roles a command line starts, whether as a module or by the installed command."""
    for at, word in enumerate(command[:-1]):
        is_command = Path(word).name == "streams" and (at == 0 or command[at - 1] == "-m" or at == 1)
        if is_command and command[at + 1] in ROLES:
            return command[at + 1]
    return None


def _ours() -> Iterator[tuple[int, str]]:
    try:
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except FileNotFoundError:
        return
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if role := role_of([word for word in command if word]):
            yield pid, role


def _listening(pid: int) -> list[str]:
    """host:port of each TCP socket that a process listens on."""
    try:
        sockets = {
            os.readlink(f"/proc/{pid}/fd/{name}")[8:-1]
            for name in os.listdir(f"/proc/{pid}/fd")
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:[")
        }
        tables = [Path(f"/proc/{pid}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    except OSError:  # it ended, or it is not ours to look at
        return []
    found = []
    for line in (line for table in tables for line in table.splitlines()[1:]):
        fields = line.split()
        if fields[3] == _LISTENING and fields[9] in sockets:
            found.append(_address(fields[1]))
    return sorted(set(found))


def _address(field: str) -> str:
    """As the kernel writes it: the address in groups of four bytes in the machine's order, then the port."""
    host, _, port = field.partition(":")
    if host in _EVERYWHERE:
        return f"127.0.0.1:{int(port, 16)}"
    groups = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    if len(groups) == 1:
        return f"{'.'.join(map(str, groups[0]))}:{int(port, 16)}"
    whole = b"".join(groups).hex()
    return f"[{':'.join(whole[at : at + 4] for at in range(0, 32, 4))}]:{int(port, 16)}"
