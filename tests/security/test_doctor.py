"""The doctor with the logins of least rights: what they may not see is unknown, no secret is told."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit, urlunsplit

from streams.database import connect
from streams.doctor.checks import all_checks
from streams.doctor.examination import examine
from streams.doctor.model import Finding, Verdict
from streams.doctor.report import as_json, as_text
from tests.security.secured import Secured


def _monitor(secured: Secured) -> str:
    """RabbitMQ's management API as the user who may only look."""
    parts = urlsplit(secured.stack.urls.management)
    login = f"streams-monitor:{quote(secured.password)}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


async def _examined(secured: Secured) -> tuple[dict[str, Finding], str]:
    settings = secured.settings(
        amqp_url=secured.amqp("monitor"),
        database_url=secured.database("streams_api"),
        redis_url=secured.redis("operator"),
    )
    results = await examine(settings, all_checks(), [], management=_monitor(secured), window=0.0)
    told = as_text(results).plain + json.dumps(as_json(results))
    return {result.check.name: result.finding for result in results}, told


async def test_logins_of_least_rights_are_enough_for_most(secured: Secured) -> None:
    found, told = await _examined(secured)
    assert secured.password not in told
    blind = {name for name, finding in found.items() if "login" in finding.measured}
    assert {name.split(".")[0] for name in blind if found[name].verdict is Verdict.UNKNOWN} == {
        "postgres",
        "redis",
    }
    assert {n for n in blind if n.startswith("redis")} == {
        "redis.append-fsync", "redis.slow-log-threshold", "redis.idle-timeout",
    }  # fmt: skip
    assert "GRANT pg_monitor TO streams_api;" in found["postgres.long-transactions"].sql
    for name in ("postgres.tls", "redis.tls", "rabbitmq.tls", "rabbitmq.topology", "redis.keys-without-ttl",
                 "rabbitmq.heartbeats", "postgres.missing-indexes", "postgres.migrations"):  # fmt: skip
        assert found[name].verdict is Verdict.OK, (name, found[name])

    admin = await connect(secured.stack.urls.database)
    await admin.execute("GRANT pg_monitor TO streams_api")
    try:
        found, _ = await _examined(secured)
    finally:
        await admin.execute("REVOKE pg_monitor FROM streams_api")
        await admin.close()
    assert [n for n, f in found.items() if n.startswith("postgres") and "login" in f.measured] == [
        "postgres.outbox"
    ]
