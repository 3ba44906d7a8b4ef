"""Writes dashboards/*.json, which Grafana reads, from source/*.yml, which people read. Run it after a change.

A panel has title, unit, queries (expr, legend, exemplar, table), type (timeseries unless said), and for a
single number the limits `warn` and `bad`; `low: true` where small numbers are the bad ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
DATASOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_SIZES: Final = {"stat": (4, 4), "table": (12, 8), "timeseries": (12, 8)}
_WIDTH: Final = 24


def dashboard(source: dict[str, Any]) -> dict[str, Any]:
    """A dashboard in Grafana's schema."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in source["rows"]:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row["title"],
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            }
        )
        top += 1
        left, height = 0, 0
        for panel in row["panels"]:
            width, tall = _SIZES[panel.get("type", "timeseries")]
            if left + width > _WIDTH:
                left, top, height = 0, top + height, 0
            place = {"x": left, "y": top, "w": width, "h": tall}
            panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": place})
            left, height = left + width, max(height, tall)
        top += height
    return {
        "uid": source["uid"],
        "title": source["title"],
        "tags": ["agent-streams"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "panels": panels,
    }


def _panel(panel: dict[str, Any]) -> dict[str, Any]:
    kind = panel.get("type", "timeseries")
    defaults: dict[str, Any] = {"unit": panel["unit"], "decimals": panel.get("decimals")}
    if "warn" in panel:
        defaults["thresholds"] = {"mode": "absolute", "steps": _steps(panel)}
    return {
        "type": kind,
        "title": panel["title"],
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {k: v for k, v in defaults.items() if v is not None}, "overrides": []},
        "options": {} if kind == "stat" else {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [_target(query, chr(ord("A") + place)) for place, query in enumerate(panel["queries"])],
    }


def _steps(panel: dict[str, Any]) -> list[dict[str, Any]]:
    warn, bad = panel["warn"], panel["bad"]
    if panel.get("low"):
        limits = [(None, "red"), (bad, "orange"), (warn, "green")]
    else:
        limits = [(None, "green"), (warn, "orange"), (bad, "red")]
    return [{"value": value, "color": color} for value, color in limits]


def _target(query: dict[str, Any], ref: str) -> dict[str, Any]:
    table = {"format": "table", "instant": True} if query.get("table") else {}
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": query["expr"],
        "legendFormat": str(query.get("legend", "__auto")),
        "exemplar": query.get("exemplar", False),
        **table,
    }


def render(source: Path) -> str:
    """The text of a dashboard's file."""
    return json.dumps(dashboard(yaml.safe_load(source.read_text(encoding="utf-8"))), indent=1) + "\n"


def main() -> None:
    for source in sorted(HERE.glob("source/*.yml")):
        (HERE / "dashboards" / f"{source.stem}.json").write_text(render(source), encoding="utf-8")


if __name__ == "__main__":
    main()
