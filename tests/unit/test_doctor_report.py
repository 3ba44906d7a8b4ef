"""The doctor's words: its report, its documentation, its judgement of versions and settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streams.doctor.checks import all_checks, chosen
from streams.doctor.model import Check, Finding, Result, Verdict, critical, ok, unknown, warning
from streams.doctor.postgres.indexes import creation, wanted_indexes
from streams.doctor.postgres.probe import Setting
from streams.doctor.postgres.settings import file_settings, same
from streams.doctor.rabbitmq.versions import troubles
from streams.doctor.redis.probe import one_node
from streams.doctor.reference import reference
from streams.doctor.report import as_json, as_sql, as_text, exit_status
from streams.settings import Settings
from streams.stack.places import configuration

ROOT = Path(__file__).parent.parent.parent


def result(name: str, finding: Finding) -> Result:
    return Result(next(c for c in all_checks() if c.name == name), finding)


RESULTS = [
    result("postgres.setting.fsync", critical("off", "", "ALTER SYSTEM SET fsync = on;")),
    result("postgres.missing-indexes", warning("idx \x1b[31m" + "long " * 40, "", "CREATE INDEX x;")),
    result("postgres.slow-statements", unknown("off")),
    result("redis.memory", ok("1MB of 2MB")),
]


def test_the_report_fits_eighty_columns_and_starts_with_the_worst() -> None:
    text = as_text(RESULTS, width=80).plain
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.index("CRITICAL") < text.index("! warning") < text.index("? unknown") < text.index("✓ ok")
    assert "\x1b" not in text
    assert (
        "ok"
        not in as_text(RESULTS, brief=True)
        .plain.split("4 checks")[0]
        .replace("docs", "")
        .split("Redis")[1]
        .split("\n", 1)[1]
    )


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([ok("x")], 0),
        ([unknown("x")], 0),
        ([warning("x"), ok("x")], 1),
        ([warning("x"), critical("x")], 2),
        ([], 0),
    ],
)
def test_the_exit_status_is_that_of_the_worst(findings: list[Finding], status: int) -> None:
    results = [result("redis.memory", finding) for finding in findings]
    assert exit_status(results) == as_json(results)["status"] == status
    json.dumps(as_json(results))


def test_the_sql_holds_what_was_found_and_no_more() -> None:
    lines = list(as_sql(RESULTS))
    assert [line for line in lines if line and not line.startswith("--")] == [
        "ALTER SYSTEM SET fsync = on;",
        "CREATE INDEX x;",
    ]
    assert all("\x1b" not in line for line in lines)


def test_the_documentation_lists_every_check_as_it_is() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert page.endswith(reference(all_checks()) + "\n"), "run: streams doctor --list"


def test_every_check_leads_to_a_page_that_exists() -> None:
    for check in all_checks():
        path, _, anchor = check.page.partition("#")
        text = (ROOT / path).read_text()
        headings = {
            re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-")
            for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert not anchor or anchor in headings, (check.name, check.page, headings)
        assert check.remedy.endswith((".", "?")), check.name


def test_checks_are_chosen_by_section_and_by_name() -> None:
    assert {c.section for c in chosen(["redis"])} == {"redis"}
    assert [c.name for c in chosen(["host.load", "postgres.setting.jit"])] == [
        "postgres.setting.jit",
        "host.load",
    ]
    assert len(chosen([])) == len(all_checks()) > 120
    with pytest.raises(ConfigurationError, match="postgres, redis"):
        chosen(["postgress"])


def test_known_troubles_of_rabbitmq_by_version() -> None:
    assert any("3.11.20" in t.remedy for t in troubles((3, 10, 8)))
    assert any("diverge" in t.what for t in troubles((4, 0, 6)))
    assert troubles((4, 0, 8)) == []
    assert troubles((4, 1, 3)) == []
    assert troubles((4, 3, 0)) != []


def test_our_configuration_file_is_read_as_the_server_reads_it() -> None:
    found = {n: (v, s) for n, v, s in file_settings(configuration("postgres/postgresql.conf").read_text())}
    assert found["shared_buffers"] == ("'256MB'", True)
    assert found["max_connections"] == ("200", False)
    assert found["shared_preload_libraries"] == ("'pg_stat_statements'", False)
    assert same(Setting("65536", "8kB", "integer", False), "'512MB'", scales=False)
    assert same(Setting("65536", "8kB", "integer", False), "'256MB'", scales=True)
    assert not same(Setting("65536", "8kB", "integer", False), "'256MB'", scales=False)
    assert same(Setting("600000", "ms", "integer", False), "'10min'", scales=False)
    assert same(Setting("0.9", None, "real", False), "0.9", scales=False)
    assert not same(Setting("off", None, "bool", False), "'on'", scales=True)


def test_the_guides_indexes_are_known_and_made_beside_writers() -> None:
    wanted = {index.name: index for index in wanted_indexes(Settings.load().migration_sources)}
    assert {"idx_tasks_agent_status_date", "idx_votes_round_agent", "idx_valid_sessions"} <= set(wanted)
    assert creation(wanted["idx_users_email"], None) == [
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_users_email ON users (email);"
    ]
    made = creation(wanted["idx_votes_agent_id"], ["votes_2026_01"])
    assert made == [
        "CREATE INDEX IF NOT EXISTS idx_votes_agent_id ON ONLY votes (agent_id);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS votes_2026_01_votes_agent_id ON votes_2026_01 (agent_id);",
        "ALTER INDEX idx_votes_agent_id ATTACH PARTITION votes_2026_01_votes_agent_id;",
    ]


def test_a_cluster_is_examined_at_its_first_node() -> None:
    assert (
        one_node("rediss://u:p@a:1,b:2/?cluster=1&ssl_ca_certs=%2Fca")
        == "rediss://u:p@a:1/?ssl_ca_certs=%2Fca"
    )
    assert one_node("redis://a:1/0") == "redis://a:1/0"


def test_verdicts_are_ordered_from_the_worst() -> None:
    assert sorted(Verdict, key=lambda v: v.rank) == ["critical", "warning", "unknown", "ok"]
    assert all(isinstance(c, Check) and c.target for c in all_checks())
