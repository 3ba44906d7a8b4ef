"""Alerts: what promtool thinks of them, when they fire, where their remedies are written down."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.cases import CASES, Case

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "infra" / "prometheus"
RULES = sorted(PROMETHEUS.glob("rules/*.yml"))


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts(files: Sequence[Path] = RULES) -> list[dict[str, Any]]:
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_promtool_accepts_configuration_and_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert "SUCCESS" in promtool("check", "rules", *map(str, RULES))


@pytest.mark.parametrize("rules", RULES, ids=lambda file: file.stem)
def test_each_alert_fires_when_it_should_and_only_then(rules: Path, tmp_path: Path) -> None:
    tests = [test for rule in alerts([rules]) for test in _tests(rule["alert"], CASES[rule["alert"]])]
    file = tmp_path / "alerts.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def _tests(name: str, case: Case) -> list[dict[str, Any]]:
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return [
        {
            "name": f"{name} {'fires' if expected else 'is quiet'}",
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [{"expr": firing, "eval_time": f"{case.at}m", "exp_samples": expected}],
        }
        for series, expected in ((case.fires, [{"labels": "{}", "value": 1}]), (case.quiet, []))
    ]


def test_each_alert_has_a_section_in_the_runbook_that_says_what_to_do() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = {
        title.strip().lower(): body
        for title, body in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    }
    assert {rule["alert"] for rule in alerts()} == set(CASES), "cases of alerts that are gone"
    for rule in alerts():
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{anchor}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in sections[anchor], f"{rule['alert']} lacks {part}"
    assert set(sections) == {rule["alert"].lower() for rule in alerts()}, "sections of alerts that are gone"
