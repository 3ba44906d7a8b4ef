"""A Redis Cluster: three masters, each with a replica."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final

import redis

from streams.stack import LocalStack, StackUrls
from streams.stack.ports import LOOPBACK
from streams.stack.redis import Redis
from streams.stack.server import find_binary
from tests.cluster.nodes import Nodes, NodeSite, nodes, wait_for
from tests.fault.harness.place import Corner, Place

_PASSWORD: Final = "clustered"
_NAMES: Final = ("n1", "n2", "n3", "n4", "n5", "n6")
# A node counts as failed after this long (ms); Redis's own 15 s are for networks that stutter.
_SETTINGS: Final = f"""
cluster-enabled yes
cluster-node-timeout 2000
masterauth {_PASSWORD}
"""


class Node(Redis):
    """A node as infra/redis/redis.conf has it, with the cluster's bus on a port of its own."""

    def __init__(self, site: NodeSite) -> None:
        super().__init__(site)
        self.port = site.ports.redis

    def prepare(self) -> None:
        super().prepare()
        own = (self._home / "redis.conf").read_text()
        bus = f"cluster-port {self._site.ports.management}\n"
        self._site.write(self.name, "redis.conf", f"{own}{_SETTINGS}{bus}")


class Cluster:
    """The nodes, and who of them is what."""

    def __init__(self, group: Nodes) -> None:
        self.group = group
        self._nodes = {name: Node(group.site(name)) for name in _NAMES}

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes.values())
        return f"redis://:{_PASSWORD}@{hosts}/0?cluster=1"

    def start(self) -> None:
        for name, node in self._nodes.items():
            self.group.start(name, node)
        self.group.ready(*_NAMES)
        addresses = [f"{LOOPBACK}:{node.port}" for node in self._nodes.values()]
        create = ["--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        command = [find_binary("redis-cli"), "--no-auth-warning", "-a", _PASSWORD, *create]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        wait_for(self.is_whole, "the cluster covers all slots, with a replica for each")

    def is_whole(self) -> bool:
        """All slots are served, and each master has a replica that has its data."""
        try:
            states = {name: self._client(name) for name in _NAMES}
            covered = all(
                client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for client in states.values()
            )
            roles = [client.info("replication") for client in states.values()]
        except redis.RedisError:
            return False
        masters = [role for role in roles if role["role"] == "master" and role["connected_slaves"] == 1]
        linked = [role for role in roles if role["role"] == "slave" and role["master_link_status"] == "up"]
        return covered and len(masters) == len(linked) == len(_NAMES) // 2

    def fullest_master(self) -> str:
        """The master that holds most keys."""
        masters = {
            n: self._client(n) for n in _NAMES if self._client(n).info("replication")["role"] == "master"
        }
        return max(masters, key=lambda name: int(masters[name].dbsize()))

    def is_replaced(self, name: str) -> bool:
        """Whether all slots are served without this node."""
        others = [other for other in _NAMES if other != name]
        masters = 0
        for other in others:
            client = self._client(other)
            if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                return False
            masters += client.info("replication")["role"] == "master"
        return masters == len(_NAMES) // 2

    def empty(self) -> None:
        for name in _NAMES:
            client = self._client(name)
            if client.info("replication")["role"] == "master":
                client.flushall()

    def _client(self, name: str) -> redis.Redis:
        return redis.Redis(LOOPBACK, self._nodes[name].port, password=_PASSWORD, socket_timeout=5)


class ClusterPlace(Place):
    """A place whose trials have their caches in the cluster, and what is cold on the single Redis."""

    def __init__(self, stack: LocalStack, urls: StackUrls, cluster: Cluster) -> None:
        super().__init__(stack, urls)
        self._cluster = cluster

    @asynccontextmanager
    async def corner(self) -> AsyncIterator[Corner]:
        async with super().corner() as corner:
            self._cluster.empty()
            yield replace(corner, redis=self._cluster.url)


@contextmanager
def cluster() -> Iterator[Cluster]:
    with nodes("cluster-redis", {"redis": _PASSWORD}) as group:
        here = Cluster(group)
        here.start()
        yield here
