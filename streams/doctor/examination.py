"""Runs checks: servers side by side, the checks of one server after another, each bounded in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import asyncpg
import httpx
import structlog
from redis.exceptions import RedisError

from schemas.errors import ConfigurationError, StreamsError
from streams.doctor.limits import Limits
from streams.doctor.model import Check, Finding, Result, Section, unknown
from streams.doctor.patient import NotThere, Patient
from streams.doctor.postgres.probe import Postgres
from streams.doctor.rabbitmq.probe import RabbitMQ
from streams.doctor.reach import UNNAMED
from streams.doctor.redis.probe import Forbidden, Redis
from streams.doctor.service.probe import Service
from streams.refusal import reason
from streams.registry import load_subscriptions
from streams.scrape.management import HELP
from streams.scrape.target import Target
from streams.settings import Settings
from streams.topology import Topology

log = structlog.get_logger(__name__)


class Probe(Protocol):
    async def connect(self) -> None: ...

    async def close(self) -> None: ...


async def examine(
    settings: Settings,
    checks: Sequence[Check],
    targets: Sequence[Target],
    *,
    management: str | None = None,
    window: float = 5.0,
    cores: int | None = None,
    limits: Limits | None = None,
) -> list[Result]:
    """The results of checks, in their order. Changes nothing anywhere.

    Args:
        settings: with the URLs of the servers; what is not named is unknown.
        targets: our processes.
        management: base of RabbitMQ's management API.
        window: seconds between the two readings of counters.
        cores: of the database server.
    """
    limits = limits or Limits()
    token = settings.api_token.get_secret_value() if settings.api_token else None
    service = Service(targets, seconds=limits.check_seconds, token=token)
    patient = Patient(settings, limits, service, cores=cores)
    async with _open(patient, {c.section for c in checks}, management):
        late = [c for c in checks if c.late]
        first = [c for c in checks if not c.late]
        done = await _run_sections(patient, first)
        if late:
            await service.finish(window)
            done |= await _run_sections(patient, late)
    return [done[c.name] for c in checks]


@asynccontextmanager
async def _open(patient: Patient, sections: set[Section], management: str | None) -> AsyncIterator[None]:
    """All probes that can be; what cannot stands in `patient.absent`."""
    settings, seconds = patient.settings, patient.limits.check_seconds
    opened: list[Probe] = []

    async def connect(section: Section, probe: Probe) -> bool:
        opened.append(probe)
        try:
            async with asyncio.timeout(4 * seconds):  # hosts of a URL are tried one by one
                await probe.connect()
        except NotThere as error:
            patient.absent[section] = str(error)
        except (TimeoutError, ConfigurationError) as error:
            patient.absent[section] = (
                "does not answer in time" if isinstance(error, TimeoutError) else str(error)
            )
        return section not in patient.absent

    async def postgres() -> None:
        if settings.database_url is None:
            patient.absent[Section.POSTGRES] = f"{UNNAMED} DATABASE_URL"
            return
        probe = Postgres(settings.database_url.get_secret_value(), seconds=seconds)
        if await connect(Section.POSTGRES, probe):
            patient.database = probe

    async def redis() -> None:
        if settings.redis_url is None:
            patient.absent[Section.REDIS] = f"{UNNAMED} REDIS_URL"
            return
        probe = Redis(settings.redis_url.get_secret_value(), seconds=seconds)
        if await connect(Section.REDIS, probe):
            patient.cache = probe

    async def rabbitmq() -> None:
        if settings.amqp_url is None or management is None:
            missing = "AMQP_URL" if settings.amqp_url is None else HELP.removeprefix("set ")
            patient.absent[Section.RABBITMQ] = f"{UNNAMED} {missing}"
            return
        topology = Topology.of(load_subscriptions(settings.handlers))
        ca = str(settings.tls_ca_file) if settings.tls_ca_file else None
        try:
            probe = RabbitMQ(
                management, settings.amqp_url.get_secret_value(), topology, ca=ca, seconds=seconds
            )
        except ConfigurationError as error:
            patient.absent[Section.RABBITMQ] = str(error)
            return
        if await connect(Section.RABBITMQ, probe):
            patient.broker = probe

    try:
        # Each judges only with the others' help here and there: a server that is not asked for is not needed.
        await asyncio.gather(postgres(), redis(), rabbitmq(), patient.service.begin())
        yield
    finally:
        await asyncio.gather(*(probe.close() for probe in opened), patient.service.close())


async def _run_sections(patient: Patient, checks: Sequence[Check]) -> dict[str, Result]:
    async def one_by_one(section: Section) -> list[Result]:
        return [await _run(patient, c) for c in checks if c.section is section]

    found = await asyncio.gather(*(one_by_one(section) for section in Section))
    return {result.check.name: result for results in found for result in results}


async def _run(patient: Patient, check: Check) -> Result:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(patient.limits.check_seconds):
            finding = await check.examine(patient)
    except (TimeoutError, StreamsError, OSError, httpx.HTTPError, RedisError, Forbidden,
            asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # fmt: skip
        finding = _failed(patient, check, error)
    except Exception as error:  # what one server says in its own way must not cost the report
        log.debug("a check failed", check=check.name, exc_info=error)
        finding = unknown(
            f"the check failed: {type(error).__name__}", "It is a bug of ours: please report it."
        )
    return Result(check, finding, time.perf_counter() - started)


def _failed(patient: Patient, check: Check, error: BaseException) -> Finding:
    """Why a check could not be done; holds no value that a server quoted."""
    if isinstance(error, NotThere):
        return unknown("not examined")
    if isinstance(error, Forbidden):
        return unknown(f"this login may not ask {error}", _right(str(error)))
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return unknown(
            "this login may not see it", patient.postgres.grant.rstrip(";"), patient.postgres.grant
        )
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return unknown(f"given up after {patient.limits.check_seconds:g} s")
    return unknown(f"could not be asked: {reason(error)}")


def _right(command: str) -> str:
    name = command.split(" or ", maxsplit=1)[0].lower().replace(" ", "|")
    return f"ACL SETUSER <user> +{name}"


def management_of(settings: Settings, stacks: Sequence[tuple[str, str]]) -> str | None:
    """Where RabbitMQ's management is: as set, or of the local stack that AMQP_URL belongs to.

    Args:
        stacks: (AMQP URL, management URL) of the local stacks that run.
    """
    if settings.management_url is not None:
        return settings.management_url.get_secret_value()
    if settings.amqp_url is None:
        return None
    ours = urlsplit(settings.amqp_url.get_secret_value())
    for amqp, management in stacks:
        parts = urlsplit(amqp)
        if (parts.hostname, parts.port) == (ours.hostname, ours.port):
            return management
    return None
