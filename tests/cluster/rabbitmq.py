"""Three RabbitMQ nodes, and a balancer in front of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from streams.stack.ports import LOOPBACK
from streams.stack.rabbitmq import PortMapper, RabbitMQ
from streams.stack.server import USER, find_binary
from tests.cluster.balancer import Balancer
from tests.cluster.nodes import Nodes, NodeSite, nodes
from tests.fault.harness.rest import until

NAMES: Final = ("r1", "r2", "r3")
_COOKIE: Final = "STREAMSCLUSTER"
_PASSWORD: Final = "clustered"
_TICK_SECONDS: Final = 8
"""After so long a silent node counts as gone; RabbitMQ's own 60 are for networks that stutter."""


class Node(RabbitMQ):
    """A node as infra/rabbitmq/rabbitmq.conf has it, that knows its peers."""

    def __init__(self, site: NodeSite, node: str, epmd: int) -> None:
        # One port mapper for all: by it they find each other.
        site = replace(site, ports=replace(site.ports, epmd=epmd))
        super().__init__(site)
        self.node = node

    def prepare(self) -> None:
        super().prepare()
        own = (self._home / "rabbitmq.conf").read_text()
        peers = "".join(
            f"cluster_formation.classic_config.nodes.{n} = {name}@localhost\n"
            for n, name in enumerate(NAMES, 1)
        )
        self._site.write(
            self.name,
            "rabbitmq.conf",
            f"{own}\ncluster_formation.peer_discovery_backend = classic_config\n{peers}",
        )
        self._site.write(self.name, ".erlang.cookie", _COOKIE).chmod(0o400)

    def variables(self) -> Mapping[str, str]:
        own = super().variables()
        arguments = own["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
        return {
            **own,
            "RABBITMQ_NODENAME": f"{self.node}@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{arguments} -kernel net_ticktime {_TICK_SECONDS}",
        }

    def evaluate(self, erlang: str) -> None:
        """Run a piece of Erlang in the node, from a program that is no member of its cluster."""
        text = erlang.replace('"', '\\"')
        call = (
            f'{{ok, T, _}} = erl_scan:string("{text}."), {{ok, E}} = erl_parse:parse_exprs(T), '
            f"{{value, _, _}} = rpc:call('{self.node}@localhost', erl_eval, exprs, [E, []]), halt(0)."
        )
        command = [
            find_binary("erl"), "-noinput", "-hidden", "-sname", f"asks-{os.getpid()}@localhost",
            "-setcookie", _COOKIE, "-start_epmd", "false", "-eval", call,
        ]  # fmt: skip
        environment = {**self._site.environment(self.name), "ERL_EPMD_PORT": str(self._site.ports.epmd)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)

    @property
    def ports(self) -> tuple[int, int]:
        """Of AMQP and of the management API."""
        return self._site.ports.amqp, self._site.ports.management


class Cluster:
    """The nodes, and what they say of themselves."""

    def __init__(self, group: Nodes, members: Sequence[Node], amqp: int, management: int) -> None:
        self.group = group
        self._members = {member.node: member for member in members}
        self.amqp = f"amqp://{USER}:{_PASSWORD}@{LOOPBACK}:{amqp}/%2F?heartbeat=5"
        self.management = f"http://{USER}:{_PASSWORD}@{LOOPBACK}:{management}"

    async def leader(self, amqp: str, queue: str) -> str:
        """The node that leads a queue now."""
        vhost = urlsplit(amqp).path[1:]
        answer = await self._ask(f"/api/queues/{vhost}/{quote(queue)}")
        return str(answer["leader"]).partition("@")[0]

    async def is_whole(self) -> bool:
        """All nodes run, and nobody sees a partition."""
        with suppress(httpx.HTTPError, KeyError):
            found = await self._ask("/api/nodes")
            running = [node for node in found if node["running"] and not node.get("partitions")]
            return len(running) == len(NAMES)
        return False

    async def cut_off(self, name: str) -> None:
        """Break a node's links to the others and let no new ones be made; clients still reach it."""
        others = [other for other in NAMES if other != name]
        each = [
            f"erlang:set_cookie('{o}@localhost', cut), erlang:disconnect_node('{o}@localhost')"
            for o in others
        ]
        await asyncio.to_thread(self._members[name].evaluate, ", ".join(each))

    async def mend(self, name: str) -> None:
        """Let the links be made again; the nodes find each other by themselves."""
        others = [other for other in NAMES if other != name]
        each = [f"erlang:set_cookie('{other}@localhost', '{_COOKIE}')" for other in others]
        await asyncio.to_thread(self._members[name].evaluate, ", ".join(each))

    async def rejoins(self, seconds: float) -> bool:
        """Whether all run as one again within that time, by themselves."""
        try:
            await until(self.is_whole, "three nodes run as one", seconds)
        except AssertionError:
            return False
        return True

    async def whole(self) -> None:
        await until(self.is_whole, "three nodes run as one", 180)

    async def _ask(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.management, timeout=10, trust_env=False) as http:
            return (await http.get(path)).raise_for_status().json()


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Three nodes that have found each other."""
    with nodes("cluster-rabbitmq", {"rabbitmq": _PASSWORD}) as group:
        mapper = group.site("epmd")
        group.start("epmd", PortMapper(mapper))
        await asyncio.to_thread(group.ready, "epmd")
        members = [Node(group.site(name), name, mapper.ports.epmd) for name in NAMES]
        # The first forms the cluster, the others join.
        for member in members:
            group.start(member.node, member)
            if member is members[0]:
                await asyncio.to_thread(group.ready, member.node)
        await asyncio.to_thread(group.ready, *NAMES)
        amqp, management = zip(*(member.ports for member in members), strict=True)
        async with Balancer(amqp) as front, Balancer(management) as behind:
            here = Cluster(group, members, front.port, behind.port)
            await here.whole()
            yield here
