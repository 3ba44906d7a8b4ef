"""A private RabbitMQ, and the Erlang port mapper that it needs."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Mapping, Sequence

from streams.stack.ports import LOOPBACK
from streams.stack.server import PROBE_SECONDS, USER, Site, find_binary

_PLAINTEXT = "listeners.tcp.default = {host}:{amqp}\n"
_TLS = """\
listeners.tcp = none
listeners.ssl.default = {host}:{amqp}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
"""
_OVERRIDES = """\
management.tcp.ip = {host}
management.tcp.port = {management}
prometheus.tcp.ip = {host}
prometheus.tcp.port = {prometheus}
default_user = {user}
default_pass = {password}
"""

# The distribution port listens everywhere unless told otherwise. Schedulers that spin while they wait would
# take a laptop's cores from the program under test. The port mapper is ours: the VM must not start another.
_VM_ARGUMENTS = (
    "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none"
)


class PortMapper:
    """epmd, as a server of its own: one that RabbitMQ starts outlives it as a daemon."""

    name = "epmd"

    def __init__(self, site: Site) -> None:
        self._port = site.ports.epmd

    def prepare(self) -> None:
        pass

    def command(self) -> Sequence[str]:
        return [find_binary("epmd", "/usr/lib/erlang/bin"), "-port", str(self._port), "-address", LOOPBACK]

    def variables(self) -> Mapping[str, str]:
        return {}

    def is_ready(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._port), PROBE_SECONDS).close()
        except OSError:
            return False
        return True


class RabbitMQ:
    """A single RabbitMQ node with management, Prometheus metrics and the consistent-hash exchange."""

    name = "rabbitmq"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._home = site.home(self.name)
        self._password = site.passwords[self.name]

    @property
    def url(self) -> str:
        site = self._site
        scheme = "amqps" if site.hardening else "amqp"
        query = site.query(cafile=str(site.hardening.ca)) if site.hardening else ""
        return f"{scheme}://{USER}:{self._password}@{LOOPBACK}:{site.ports.amqp}/%2F{query}"

    @property
    def management_url(self) -> str:
        return f"http://{USER}:{self._password}@{LOOPBACK}:{self._site.ports.management}"

    def prepare(self) -> None:
        ports = self._site.ports
        overrides = _OVERRIDES.format(
            host=LOOPBACK, management=ports.management, prometheus=ports.prometheus,
            user=USER, password=self._password,
        )  # fmt: skip
        if self._site.hardening is None:
            overrides += _PLAINTEXT.format(host=LOOPBACK, amqp=ports.amqp)
        else:
            certificates = self._site.write_certificates(self.name)
            overrides += _TLS.format(host=LOOPBACK, amqp=ports.amqp, **certificates)
        self._site.write_config(self.name, "rabbitmq.conf", overrides)
        self._site.write_config(self.name, "enabled_plugins", "")

    def command(self) -> Sequence[str]:
        # /usr/sbin/rabbitmq-server insists on root or the rabbitmq account; this one runs as anybody.
        return [find_binary("rabbitmq-server", "/usr/lib/rabbitmq/bin")]

    def variables(self) -> Mapping[str, str]:
        home, ports = self._home, self._site.ports
        return {
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            # The system's own broker keeps its settings in these.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILES": f"{home}/conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _VM_ARGUMENTS,
            # Makes the script become the VM, so that our signals reach it and not a shell.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def is_ready(self) -> bool:
        return self._manages() and self._speaks_amqp()

    def _manages(self) -> bool:
        credentials = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        port = self._site.ports.management
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {credentials}"})
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _speaks_amqp(self) -> bool:
        try:
            with self._site.connect(self._site.ports.amqp) as connection:
                connection.sendall(b"AMQP\0\0\x09\x01")
                # Connection.Start is a method frame (1) on channel 0.
                return connection.recv(3) == b"\x01\0\0"
        except OSError:
            return False
