"""`streams migrate` and `streams partitions`: what they print, and their exit status."""

from __future__ import annotations

import json

import asyncpg
import pytest
import typer
from typer.testing import CliRunner

from schemas.errors import ConfigurationError
from streams.cli import partitions as partitions_command
from streams.cli.migrate import migrate as migrate_command

app = typer.Typer()
app.command("migrate")(migrate_command)
app.add_typer(partitions_command.app, name="partitions")


@pytest.fixture
async def hole(database_url: str) -> str:
    """A database without next month's tasks and with an expired month of votes."""
    connection = await asyncpg.connect(database_url)
    name: str = await connection.fetchval(
        "SELECT partition_name FROM list_partitions() WHERE table_name = 'tasks' ORDER BY starts DESC LIMIT 1"
    )
    await connection.execute(f"DROP TABLE {name}")
    await connection.fetch("SELECT create_partition('votes', now() - interval '20 months')")
    await connection.close()
    return name


def run(database_url: str | None, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"DATABASE_URL": database_url})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def report(output: str) -> dict[str, list[str]]:
    value: dict[str, list[str]] = json.loads(output)
    return value


def test_migrate_has_nothing_left_to_do(database_url: str) -> None:
    assert run(database_url, "migrate") == (0, "The schema is up to date.\n")
    assert run(database_url, "migrate", "--check", "--json") == (0, '{"pending": []}\n')


def test_plan_then_apply(database_url: str, hole: str) -> None:
    status, text = run(database_url, "partitions", "plan")
    assert status == 1
    assert f"create  {hole}" in text
    status, text = run(database_url, "partitions", "plan", "--json")
    plan = json.loads(text)
    assert (status, plan["ahead"]["tasks"], plan["create"][0]["name"]) == (1, 2, hole)
    assert len(plan["detach"]) == 1

    status, text = run(database_url, "partitions", "apply", "--json")
    assert (status, report(text)["created"], report(text)["left"]) == (0, [hole], [])
    assert len(report(text)["detached"]) == 1
    assert run(database_url, "partitions", "apply") == (0, "Nothing to do.\n")
    status, text = run(database_url, "partitions", "plan")
    assert status == 0
    assert text.endswith("Nothing to do.\n")


def test_errors_are_ours(database_url: str) -> None:
    for url in ("postgresql://nobody@127.0.0.1:1/x", database_url.rpartition("/")[0] + "/postgres"):
        with pytest.raises(ConfigurationError):
            run(url, "partitions", "plan")
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        run(None, "migrate")
