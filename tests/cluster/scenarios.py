"""What is done to each cluster while two workers and two updaters serve the same queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from tests.cluster import postgres, rabbitmq, redis
from tests.fault.harness.place import Place
from tests.fault.harness.rest import until
from tests.fault.harness.trial import Stage, Trial, trial

_RATE: Final = 400.0
_QUEUE: Final = "tasks.record_tasks"
_REJOIN_SECONDS: Final = 20.0
_MEMBERS: Final = {"workers": 2, "updaters": 2}


async def rabbitmq_leader(stage: Stage) -> None:
    """The node that leads the busiest queue is killed, comes back, and so does the next leader's."""
    async with rabbitmq.cluster() as cluster:
        place = await place_with(stage, amqp=cluster.amqp, management=cluster.management)
        async with trial(replace(stage, place=place), "RabbitMQ: leader killed", **_MEMBERS) as here:
            messages, killed = here.load.plan(stage.scaled(8_000, 2_000)), []
            async with here.publishing(messages, _RATE):
                for share in (0.25, 0.6):
                    await _confirmed(here, round(share * len(messages)))
                    leader = await cluster.leader(here.corner.amqp, _QUEUE)
                    await asyncio.to_thread(cluster.group.kill, leader)
                    killed.append(leader)
                    await _another_leads(here, cluster, leader)
                    await asyncio.to_thread(cluster.group.again, leader)
                    await asyncio.to_thread(cluster.group.ready, leader)
                    await cluster.whole()
            here.row.faults = f"kill -9 of the queue's leader, {len(killed)} times; {_again(here)}"


async def rabbitmq_partition(stage: Stage) -> None:
    """The leader's node loses the others, and clients still reach it: a minority must not go on alone."""
    async with rabbitmq.cluster() as cluster:
        place = await place_with(stage, amqp=cluster.amqp, management=cluster.management)
        async with trial(replace(stage, place=place), "RabbitMQ: node cut off", **_MEMBERS) as here:
            messages = here.load.plan(stage.scaled(8_000, 2_000))
            async with here.publishing(messages, _RATE):
                await _confirmed(here, len(messages) // 3)
                leader = await cluster.leader(here.corner.amqp, _QUEUE)
                await cluster.cut_off(leader)
                await _another_leads(here, cluster, leader)
                await _confirmed(here, 2 * len(messages) // 3)
                await cluster.mend(leader)
            await cluster.whole()
            here.row.faults = (
                "the leader cut off from the others until two thirds were sent; it rejoined by itself; "
                f"{_again(here)}"
            )


async def rabbitmq_suspended(stage: Stage) -> None:
    """The leader's node stands still until it is given up, and goes on without knowing that it was away."""
    async with rabbitmq.cluster() as cluster:
        place = await place_with(stage, amqp=cluster.amqp, management=cluster.management)
        async with trial(replace(stage, place=place), "RabbitMQ: node suspended", **_MEMBERS) as here:
            messages = here.load.plan(stage.scaled(8_000, 2_000))
            async with here.publishing(messages, _RATE):
                await _confirmed(here, len(messages) // 3)
                leader = await cluster.leader(here.corner.amqp, _QUEUE)
                cluster.group.freeze(leader)
                await _another_leads(here, cluster, leader)
                await _confirmed(here, 2 * len(messages) // 3)
                cluster.group.thaw(leader)
                rejoined = await cluster.rejoins(_REJOIN_SECONDS)
                if not rejoined:
                    # It does not know that it was away, so it did not pause: Mnesia needs it restarted.
                    await asyncio.to_thread(cluster.group.kill, leader)
                    await asyncio.to_thread(cluster.group.again, leader)
            await cluster.whole()
            how = "it rejoined by itself" if rejoined else "it came back to a partition and was restarted"
            here.row.faults = (
                f"the queue's leader frozen until another led and two thirds were sent; {how}; {_again(here)}"
            )


async def postgres_promotion(stage: Stage) -> None:
    """The primary is killed, its synchronous standby promoted; every URL names both hosts."""
    with postgres.pair(synchronous=True) as pair:
        place = await place_with(stage, database=pair.url)
        async with trial(replace(stage, place=place), "PostgreSQL: standby promoted", **_MEMBERS) as here:
            messages = here.load.plan(stage.scaled(8_000, 1_200))
            async with here.publishing(messages, _RATE):
                await _confirmed(here, len(messages) // 2)
                await asyncio.to_thread(pair.group.kill, "one")
                await until(lambda: here.troubled("paused"), "a worker says that it waits", 60)
                await asyncio.to_thread(pair.promote)
            here.row.faults = (
                "kill -9 of the primary while workers wait for its commits, pg_promote() of the standby"
            )


async def postgres_frozen(stage: Stage) -> None:
    """The primary goes silent instead of dying: it keeps connections, takes new ones, says nothing."""
    with postgres.pair(synchronous=True) as pair:
        place = await place_with(stage, database=pair.url)
        async with trial(replace(stage, place=place), "PostgreSQL: primary silent", **_MEMBERS,
                         STREAMS_PROFILE="production", STREAMS_ALLOW_PLAINTEXT="1") as here:  # fmt: skip
            messages = here.load.plan(stage.scaled(6_000, 1_200))
            async with here.publishing(messages, _RATE):
                await _confirmed(here, len(messages) // 2)
                pair.group.freeze("one")
                await until(lambda: here.troubled("paused"), "a worker says that it waits", 120)
                # Fenced before another takes over: two primaries at once are what no client can mend.
                await asyncio.to_thread(pair.group.kill, "one")
                await asyncio.to_thread(pair.promote)
            here.row.faults = (
                "the primary frozen until a worker reports it, then fenced and the standby promoted"
            )


async def redis_failover(stage: Stage) -> None:
    """The fullest master is killed; its replica takes over with what had been replicated by then."""
    with redis.cluster() as cluster:
        place = redis.ClusterPlace(stage.place.stack, stage.place.urls, cluster)
        place.logs = stage.place.logs
        async with trial(replace(stage, place=place), "Redis Cluster: master killed", **_MEMBERS) as here:
            messages = here.load.plan(stage.scaled(6_000, 1_200))
            async with here.publishing(messages, _RATE):
                await _confirmed(here, len(messages) // 3)
                master = await asyncio.to_thread(cluster.fullest_master)
                await asyncio.to_thread(cluster.group.kill, master)
                await until(lambda: cluster.is_replaced(master), "a replica took over", 60)
                await _confirmed(here, 2 * len(messages) // 3)
                await asyncio.to_thread(cluster.group.again, master)
            await until(cluster.is_whole, "the cluster is whole again", 60)
            here.row.faults = "kill -9 of a master of three; its replica took over; it came back as a replica"


async def place_with(stage: Stage, **urls: str) -> Place:
    """The stage's servers, but for those that are clusters here."""
    place = Place(stage.place.stack, replace(stage.place.urls, **urls))
    if "database" in urls:
        await place.prepare()
    place.logs = stage.place.logs
    return place


async def _confirmed(here: Trial, count: int) -> None:
    await until(lambda: here.producer.confirmed >= count, f"{count} messages confirmed")


async def _another_leads(here: Trial, cluster: rabbitmq.Cluster, gone: str) -> None:
    async def moved() -> bool:
        try:
            return await cluster.leader(here.corner.amqp, _QUEUE) != gone
        except (OSError, LookupError, rabbitmq.httpx.HTTPError):
            return False

    await until(moved, f"another node leads after {gone}", 60)


def _again(here: Trial) -> str:
    return f"{here.producer.sent_again:,} messages sent again"


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "rabbitmq-leader": rabbitmq_leader,
    "rabbitmq-partition": rabbitmq_partition,
    "rabbitmq-suspended": rabbitmq_suspended,
    "redis-failover": redis_failover,
    "postgres-promotion": postgres_promotion,
    "postgres-frozen": postgres_frozen,
}
