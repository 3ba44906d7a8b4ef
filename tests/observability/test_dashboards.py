"""Dashboards and alerts ask for metrics that exist, with labels that they have."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from streams.telemetry import Metrics
from tests.observability.catalogue import series_of
from tests.observability.promql import parse
from tests.observability.test_rules import RULES, promtool

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "infra" / "grafana"
DASHBOARDS = sorted(GRAFANA.glob("dashboards/*.json"))

TARGET = frozenset({"job", "instance"})  # what Prometheus adds to all of a target's series
OTHERS = {
    "up": TARGET,
    "ALERTS": frozenset({"alertname", "alertstate"}),
    **{
        f"process_{name}": TARGET
        for name in ("cpu_seconds_total", "resident_memory_bytes", "start_time_seconds")
    },
}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known() -> dict[str, frozenset[str]]:
    listed = {}
    for line in (Path(__file__).parent / "exporters.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, labels = line.partition(" ")
            listed[name] = frozenset(labels.split())
    rules = [rule for group in groups() for rule in group["rules"]]
    recorded = {rule["record"]: frozenset() for rule in rules if "record" in rule}
    return {**series_of(Metrics()), **listed, **OTHERS, **recorded}


def groups() -> list[dict]:
    return [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]


def panels() -> list[tuple[str, str, str]]:
    """(where, query, legend) of every target."""
    found = []
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                where = f"{file.stem}: {panel['title']}"
                found.append((where, target["expr"], target["legendFormat"]))
    return found


def filled(query: str) -> str:
    """With Grafana's own variables filled in."""
    return query.replace("$__rate_interval", "1m").replace("$__range:1m", "5m:1s").replace("$__range", "5m")


@pytest.mark.parametrize("source", sorted(GRAFANA.glob("source/*.yml")), ids=lambda file: file.stem)
def test_dashboards_are_what_their_sources_say(source: Path) -> None:
    written = (GRAFANA / "dashboards" / f"{source.stem}.json").read_text(encoding="utf-8")
    assert written == generator().render(source), "run infra/grafana/generate.py"


def test_every_query_asks_for_what_exists() -> None:
    exists = known()
    asked = [(where, query, set(re.findall(r"\{\{(\w+)\}\}", legend))) for where, query, legend in panels()]
    asked += [
        (rule.get("alert") or rule["record"], rule["expr"], set())
        for group in groups()
        for rule in group["rules"]
    ]
    assert len(asked) > 100
    for where, query, shown in asked:
        question = parse(query)
        assert question.metrics or query.startswith("vector("), where
        labels = set(TARGET)
        for name, matchers in question.metrics.items():
            assert name in exists, f"{where}: no metric {name}"
            assert matchers <= exists[name] | TARGET, f"{where}: {name} has no {matchers - exists[name]}"
            labels |= exists[name]
        assert question.groups | shown <= labels, f"{where}: no label {(question.groups | shown) - labels}"


def test_promtool_understands_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query_{n}", "expr": filled(query)} for n, (_, query, _) in enumerate(panels())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
