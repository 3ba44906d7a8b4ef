"""Nodes and connections: alarms, room, versions, what clients do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from streams.doctor.judging import clock_finding, link_finding
from streams.doctor.model import Finding, check, critical, ok, unknown, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.rabbitmq.versions import troubles
from streams.doctor.words import size
from streams.topology import CACHE_BUS
from streams.watch import escaped

_BASELINE: Final = "Baseline: resource metrics"


@check(
    "rabbitmq.alarms",
    "the alarms for memory and disk; while one is set, publishers are blocked",
    target="none",
    remedy="Free memory or disk; drain the backlog. Producers and our outbox wait until then.",
    page="docs/runbook.md#rabbitmqalarm",
    guide=_BASELINE,
)
async def alarms(patient: Patient) -> Finding:
    found = [
        f"{what} on {escaped(node['name'])}"
        for node in patient.rabbitmq.nodes
        for key, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk"))
        if node.get(key)
    ]
    return critical(", ".join(found)) if found else ok("none")


@check(
    "rabbitmq.nodes",
    "nodes that run, and partitions between them",
    target="all, none",
    remedy="Start the node; after a partition, restart the side that paused.",
)
async def nodes(patient: Patient) -> Finding:
    known = patient.rabbitmq.nodes
    down = [escaped(node["name"]) for node in known if not node.get("running")]
    split = [escaped(node["name"]) for node in known if node.get("partitions")]
    if down or split:
        return critical(
            "; ".join(f"{w}: {', '.join(n)}" for w, n in (("down", down), ("partitioned", split)) if n)
        )
    return ok(f"{len(known)} running")


def _fullest(patient: Patient, used: str, most: str) -> tuple[float, str] | None:
    shares = [
        (node[used] / node[most], f"{node[used]} of {node[most]}")
        for node in patient.rabbitmq.nodes
        if node.get(most) and used in node
    ]
    return max(shares) if shares else None


def _share(patient: Patient, used: str, most: str) -> Finding:
    fullest = _fullest(patient, used, most)
    if fullest is None:
        return unknown("not told by this version")
    return unless(fullest[0] < patient.limits.node_share, fullest[1])


@check(
    "rabbitmq.file-descriptors",
    "file descriptors of the fullest node",
    target="< 80 %",
    remedy="Raise `ulimit -n` of the server (LimitNOFILE=65536).",
    guide=_BASELINE,
)
async def descriptors(patient: Patient) -> Finding:
    return _share(patient, "fd_used", "fd_total")


@check(
    "rabbitmq.processes",
    "Erlang processes of the fullest node; connections, channels and queues take some each",
    target="< 80 %",
    remedy="Find who opens connections or channels without closing them.",
)
async def processes(patient: Patient) -> Finding:
    return _share(patient, "proc_used", "proc_total")


@check(
    "rabbitmq.memory",
    "memory of the fullest node, of its high watermark",
    target="< 80 %",
    remedy="Give the node more memory, or drain the backlog: at the watermark publishers are blocked.",
    guide=_BASELINE,
)
async def memory(patient: Patient) -> Finding:
    shares = [(n["mem_used"] / n["mem_limit"], n) for n in patient.rabbitmq.nodes if n.get("mem_limit")]
    if not shares:
        return unknown("not told by this version")
    share, node = max(shares, key=lambda item: item[0])
    return unless(share < patient.limits.node_share, f"{share:.0%} of {size(node['mem_limit'])}")


@check(
    "rabbitmq.disk",
    "free disk of the fullest node, against its limit",
    target="> 2 × the limit",
    remedy="Make room: below the limit publishers are blocked. Quorum queues grow while consumers are away.",
    page="docs/servers.md#rabbitmq-310-to-43",
    guide=_BASELINE,
)
async def disk(patient: Patient) -> Finding:
    free = [
        (n["disk_free"], n["disk_free_limit"])
        for n in patient.rabbitmq.nodes
        if isinstance(n.get("disk_free"), int)
    ]
    if not free:
        return unknown("not told by this version")
    least, limit = min(free, key=lambda item: item[0] - item[1])
    if limit < 256 * 1024 * 1024:
        return warning(f"{size(least)} free; the limit of {size(limit)} leaves no room to recover in",
                       "Set disk_free_limit.absolute = 512MB in rabbitmq.conf.")  # fmt: skip
    return unless(least > 2 * limit, f"{size(least)} free, limit {size(limit)}")


@check(
    "rabbitmq.version",
    "the version, against known troubles of quorum queues, dead-lettering and the management API",
    target="no known trouble",
    remedy="Upgrade to the release that repairs it.",
)
async def version(patient: Patient) -> Finding:
    probe = patient.rabbitmq
    shown = ".".join(map(str, probe.version))
    found = troubles(probe.version)
    if not found:
        return ok(shown)
    return warning(
        f"{shown}: {'; '.join(t.what for t in found)}", " ".join(dict.fromkeys(t.remedy for t in found))
    )


@check(
    "rabbitmq.unroutable",
    "messages that no queue took, but for those of `cache-bus`, to which nobody need listen",
    target="none dropped",
    remedy="A producer publishes to an exchange that nothing is bound to: see `streams topology check`.",
)
async def unroutable(patient: Patient) -> Finding:
    probe, vhost = patient.rabbitmq, quote(patient.rabbitmq.vhost, safe="")
    stats = (await probe.get(f"/api/vhosts/{vhost}")).get("message_stats") or {}
    bus = (await probe.get(f"/api/exchanges/{vhost}/{CACHE_BUS}")).get("message_stats") or {}
    unheard = bus.get("publish_in", 0) - bus.get("publish_out", 0)
    dropped = max(0, stats.get("drop_unroutable", 0) - max(0, unheard))
    return unless(not dropped, f"{dropped} dropped, {stats.get('return_unroutable', 0)} returned")


async def _connections(patient: Patient) -> list[Mapping[str, Any]]:
    return await patient.rabbitmq.connections()


def _clients(connections: list[Mapping[str, Any]]) -> str:
    names = {
        escaped(str((c.get("client_properties") or {}).get("connection_name") or c.get("user") or "?"))[:40]
        for c in connections
    }
    return ", ".join(sorted(names)[:4])


@check(
    "rabbitmq.heartbeats",
    "connections without a heartbeat",
    target="none",
    remedy="Let clients ask for one (30 s): a connection whose machine is gone is else kept for hours.",
)
async def heartbeats(patient: Patient) -> Finding:
    silent = [c for c in await _connections(patient) if c.get("timeout") == 0]
    return unless(not silent, f"{len(silent)}: {_clients(silent)}" if silent else "none")


@check(
    "rabbitmq.blocked-connections",
    "connections that the broker holds back",
    target="none",
    remedy="An alarm is set (rabbitmq.alarms), or a publisher is faster than the disk: spread it out.",
)
async def blocked(patient: Patient) -> Finding:
    held = [c for c in await _connections(patient) if c.get("state") in ("blocked", "blocking")]
    return unless(not held, f"{len(held)}: {_clients(held)}" if held else "none")


@check(
    "rabbitmq.users",
    "the users that are connected to our virtual host",
    target="not guest",
    remedy="Give each process its user of infra/rabbitmq/definitions.json, and delete `guest`.",
    page="docs/security.md#rabbitmq",
)
async def users(patient: Patient) -> Finding:
    names = sorted({str(c.get("user", "?")) for c in await _connections(patient)})
    if not names:
        return unknown("nobody is connected")
    return unless("guest" not in names, escaped(", ".join(names[:6])))


@check(
    "rabbitmq.clock",
    "the clock of the node that answered, by its Date header (to within a second)",
    target="< 1 s apart",
    remedy="Run NTP (chrony) on both.",
)
async def clock(patient: Patient) -> Finding:
    ahead = patient.rabbitmq.clock_ahead
    if ahead is None:
        return unknown("not told")
    return clock_finding(patient, ahead, resolution=patient.rabbitmq.clock_doubt)


@check(
    "rabbitmq.tls",
    "whether AMQP and the management API are reached by TLS, where they are another machine",
    target="TLS, or loopback",
    remedy="Use amqps:// in AMQP_URL and https:// in STREAMS_MANAGEMENT_URL.",
    page="docs/security.md#links",
)
async def link(patient: Patient) -> Finding:
    probe = patient.rabbitmq
    if not probe.management_is_safe:
        return critical("the management API in plaintext to another machine")
    return link_finding(secure=probe.uses_tls, local=probe.is_local)
