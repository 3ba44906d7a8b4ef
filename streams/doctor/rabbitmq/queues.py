"""Queues: type, arguments, policies, consumers, what waits in them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.doctor.model import Finding, check, critical, ok, unless, warning
from streams.doctor.patient import Patient
from streams.doctor.words import duration
from streams.topology import QUARANTINE
from streams.watch import escaped

_TOPOLOGY: Final = "docs/operations.md#the-delivery-limit"
_DANGEROUS: Final = ("message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit", "overflow",
                     "dead-letter-exchange", "dead-letter-strategy")  # fmt: skip


def _named(found: Iterator[str] | list[str]) -> str:
    names = [escaped(name) for name in found]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@check(
    "rabbitmq.topology",
    "the queues of our handlers",
    target="all there",
    remedy="Run `streams topology apply`, or start a worker whose login may declare.",
    page="docs/security.md#rabbitmq",
)
async def topology(patient: Patient) -> Finding:
    probe = patient.rabbitmq
    absent = [queue.name for queue in probe.topology.queues if queue.name not in probe.queues]
    return critical(f"missing: {_named(absent)}") if absent else ok(f"all {len(probe.topology.queues)}")


@check(
    "rabbitmq.queue-type",
    "the type of our queues",
    target="quorum",
    remedy="Declare the queue anew (drain, delete, `streams topology apply`): a classic one is lost "
    "with its node.",
    page=_TOPOLOGY,
)
async def queue_type(patient: Patient) -> Finding:
    other = [f"{q['name']} ({q.get('type')})" for q in patient.rabbitmq.ours() if q.get("type") != "quorum"]
    return critical(_named(other)) if other else ok("quorum")


@check(
    "rabbitmq.arguments",
    "the arguments of our queues: dead-letter exchange and strategy, overflow, delivery limit",
    target="as declared by us",
    remedy="Drain and delete the queue, then `streams topology apply`: arguments cannot be changed.",
    page=_TOPOLOGY,
)
async def arguments(patient: Patient) -> Finding:
    probe = patient.rabbitmq
    wrong = []
    for queue in probe.topology.queues:
        found = probe.queues.get(queue.name)
        if found is None:
            continue
        own = found.get("arguments") or {}
        differing = [name for name, value in queue.arguments.items() if own.get(name) != value]
        if differing:
            shown = ", ".join(f"{name}={own.get(name, 'unset')}" for name in differing)
            wrong.append(f"{queue.name}: {shown}")
    return critical(_named(wrong)) if wrong else ok("as declared")


@check(
    "rabbitmq.delivery-limit",
    "the limit in force on our queues: unset it is 20 from RabbitMQ 4.0 on, and -1 counts as one in 3.10",
    target="hundreds",
    remedy="Declare the queue with our x-delivery-limit; every lost connection counts one for all it "
    "prefetched.",
    page=_TOPOLOGY,
)
async def delivery_limit(patient: Patient) -> Finding:
    probe, low = patient.rabbitmq, []
    for queue in probe.ours():
        limit = _effective_limit(queue, probe.version)
        if limit is not None and limit < 100:
            low.append(f"{queue['name']}: {limit}")
    return critical(_named(low)) if low else ok("high enough")


def _effective_limit(queue: Mapping[str, Any], version: tuple[int, ...]) -> int | None:
    """None: there is none. The lower of argument and policy counts."""
    own = (queue.get("arguments") or {}).get("x-delivery-limit")
    policy = (queue.get("effective_policy_definition") or {}).get("delivery-limit")
    given = [limit for limit in (own, policy) if isinstance(limit, int)]
    if not given:
        return 20 if version >= (4, 0) and queue.get("type") == "quorum" else None
    lowest = min(given)
    return None if lowest < 0 and version >= (4, 0) else lowest


@check(
    "rabbitmq.policies",
    "policies that change how our queues keep, limit or dead-letter messages",
    target="none",
    remedy="Narrow the policy's pattern, so that it leaves our queues alone: their arguments say all.",
    page=_TOPOLOGY,
)
async def policies(patient: Patient) -> Finding:
    found = []
    for queue in patient.rabbitmq.ours():
        definition = queue.get("effective_policy_definition") or {}
        names = ", ".join(name for name in _DANGEROUS if name in definition)
        if names:
            found.append(f"{queue['name']}: {names} by {queue.get('policy') or queue.get('operator_policy')}")
    return unless(not found, _named(found) or "none")


@check(
    "rabbitmq.consumers",
    "consumers of our queues, but for quarantine",
    target="≥ 1 each",
    remedy="Start `streams worker` (or updater); one that runs and is not counted subscribes "
    "anew within a minute.",
    page="docs/runbook.md#noconsumers",
)
async def consumers(patient: Patient) -> Finding:
    lonely = [
        q["name"] for q in patient.rabbitmq.ours() if q["name"] != QUARANTINE and not q.get("consumers", 0)
    ]
    if lonely:
        return critical(f"none on {_named(lonely)}")
    counts = [q.get("consumers", 0) for q in patient.rabbitmq.ours() if q["name"] != QUARANTINE]
    return ok(f"{sum(counts)} on {len(counts)} queues")


@check(
    "rabbitmq.stray-queues",
    "other queues of this virtual host that hold messages and have no consumer",
    target="none",
    remedy="Delete what nobody reads: bound to our exchanges it grows until the disk is full.",
)
async def stray(patient: Patient) -> Finding:
    ours = {queue.name for queue in patient.rabbitmq.topology.queues}
    found = [
        f"{q['name']} ({q.get('type', 'classic')}, {q.get('messages', 0)})"
        for q in patient.rabbitmq.queues.values()
        if q["name"] not in ours and q.get("messages", 0) and not q.get("consumers", 0)
    ]
    return unless(not found, _named(found) or "none")


@check(
    "rabbitmq.backlog",
    "messages that wait in our queues, and how long they take at the present rate",
    target="< 100,000, < 1 min",
    remedy="More workers (docs/operations.md); is one paused (service.paused), or PostgreSQL slow?",
    page="docs/runbook.md#backloggrowing",
    guide="Baseline: messages processed per second",
)
async def backlog(patient: Patient) -> Finding:
    queues = [q for q in patient.rabbitmq.ours() if q["name"] != QUARANTINE]
    ready = sum(q.get("messages_ready", 0) for q in queues)
    rate = sum(((q.get("message_stats") or {}).get("ack_details") or {}).get("rate", 0.0) for q in queues)
    wait = ready / rate if rate > 0 else None
    measured = f"{ready}" + (f", {duration(wait)} at {rate:.0f}/s" if ready and wait is not None else "")
    slow = wait is not None and wait > patient.limits.drain_seconds
    return unless(ready < patient.limits.backlog and not slow, measured)


@check(
    "rabbitmq.oldest-message",
    "the age of the message at the head of our queues, where its producer wrote a timestamp",
    target="< 1 min",
    remedy="Something at the head is not taken: look at consumers, pauses and unacknowledged messages.",
)
async def oldest(patient: Patient) -> Finding:
    stamps = [
        stamp
        for q in patient.rabbitmq.ours()
        if q["name"] != QUARANTINE and q.get("messages_ready")
        if isinstance(stamp := q.get("head_message_timestamp"), int)
    ]
    if not stamps:
        return ok("nothing waits, or without timestamps")
    age = max(0.0, time.time() - min(stamps))
    return unless(age < patient.limits.drain_seconds, duration(age))


@check(
    "rabbitmq.unacknowledged",
    "messages handed out and not settled, against prefetch × consumers",
    target="< 100 %",
    remedy="Workers hold all they may: are they paused, or is a transaction slow (streams_stage_seconds)?",
    page="docs/operations.md#give-back",
)
async def unacknowledged(patient: Patient) -> Finding:
    full = []
    total = 0
    for queue in patient.rabbitmq.ours():
        unacked, room = (
            queue.get("messages_unacknowledged", 0),
            patient.settings.prefetch * queue.get("consumers", 0),
        )
        total += unacked
        if room and unacked >= room and queue.get("messages_ready"):
            full.append(f"{queue['name']}: {unacked} of {room}")
    return unless(not full, _named(full) or f"{total}")


@check(
    "rabbitmq.redelivered",
    "messages delivered more than once, of all deliveries from our queues",
    target="< 5 %",
    remedy="Workers die or lose their connection: read their logs and streams_redelivered_total.",
    page="docs/operations.md#messages-that-kill-workers",
)
async def redelivered(patient: Patient) -> Finding:
    stats = [q.get("message_stats") or {} for q in patient.rabbitmq.ours() if q["name"] != QUARANTINE]
    delivered = sum(s.get("deliver_get", 0) for s in stats)
    again = sum(s.get("redeliver", 0) for s in stats)
    if not delivered:
        return ok("nothing delivered yet")
    return unless(again / delivered < patient.limits.redelivered, f"{again / delivered:.2%} of {delivered}")


@check(
    "rabbitmq.quarantine",
    "dead letters in the queue `quarantine`",
    target="none",
    remedy="Look at them with `streams dlq list`; each says what to do.",
    page="docs/runbook.md#deadletterswaiting",
)
async def quarantine(patient: Patient) -> Finding:
    letters = (patient.rabbitmq.queues.get(QUARANTINE) or {}).get("messages", 0)
    return ok("none") if letters < patient.limits.letters else warning(letters)


@check(
    "rabbitmq.replicas",
    "members of our quorum queues that are online",
    target="all",
    remedy="Bring the missing node back; a queue with a minority online takes and gives nothing.",
)
async def replicas(patient: Patient) -> Finding:
    missing = []
    for queue in patient.rabbitmq.ours():
        members, online = set(queue.get("members") or ()), set(queue.get("online") or ())
        if members - online:
            missing.append(f"{queue['name']}: {len(online)} of {len(members)}")
    return critical(_named(missing)) if missing else ok("all online")
