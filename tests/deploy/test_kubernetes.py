"""Manifests: what the API server would take, and what the code they run needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.registry import load_subscriptions
from streams.settings import DEFAULT_HANDLERS, Settings
from tests.deploy.compose import INFRA, ROOT
from tests.deploy.manifests import custom_schemas, documents, problems

KUBERNETES = INFRA / "kubernetes"
FILES = [p for p in sorted(KUBERNETES.rglob("*.yaml")) if p.name != "kustomization.yaml"]
OBJECTS = [(path, document) for path in FILES for document in documents(path.read_text())]
BASE = [document for path, document in OBJECTS if path.parent.name == "base"]
POD_MAKERS = [d for _, d in OBJECTS if d["kind"] in ("Deployment", "StatefulSet", "Job")]
CLOSING_SECONDS = 15  # streams/app.py: what is closed after the drain, at most


def objects(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in BASE if document["kind"] == kind}


def settings() -> dict[str, str]:
    found: dict[str, str] = objects("ConfigMap")["streams-settings"]["data"]
    return found


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize(
    ("path", "manifest"), OBJECTS, ids=lambda x: x.name if isinstance(x, Path) else x["kind"]
)
def test_the_api_would_take_it(path: Path, manifest: dict[str, Any]) -> None:
    assert problems(manifest) == []


def test_a_mistake_would_be_seen() -> None:
    worker = objects("Deployment")["worker"]
    worker["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert problems(worker)
    (known,) = custom_schemas([_CRD]).items()
    assert known[0] == ("example.com/v1", "Thing")
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}}
    assert problems({**thing, "spec": {"size": 1}}, dict([known])) == []
    assert problems({**thing, "spec": {"sizes": 1}}, dict([known]))


_CRD = """
spec:
  group: example.com
  names: { kind: Thing }
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            apiVersion: { type: string }
            kind: { type: string }
            spec: { type: object, properties: { size: { type: integer } } }
"""


@pytest.mark.parametrize("folder", sorted(p.parent for p in KUBERNETES.rglob("kustomization.yaml")))
def test_kustomizations_name_what_is_there(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    resources = [folder / name for name in kustomization["resources"]]
    assert [path for path in resources if not path.exists()] == []
    here = {p.name for p in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert here <= set(kustomization["resources"]), "a file that nobody deploys"
    names = {document["metadata"]["name"] for document in BASE}
    for patch in kustomization.get("patches", ()):
        assert patch["target"]["name"] in names


def test_settings_exist() -> None:
    known = {variable for variable, _, _ in Settings.table()}
    assert [v for v in settings() if v not in known and not v.startswith("OTEL_")] == []


@pytest.mark.parametrize("role", ["worker", "updater", "api"])
def test_a_stop_drains_within_the_grace_period(role: str) -> None:
    deployment = objects("Deployment")[role]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    before = container(deployment).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert grace >= before + float(settings()["STREAMS_SHUTDOWN_SECONDS"]) + CLOSING_SECONDS
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert objects("PodDisruptionBudget")[role]["spec"]["selector"] == deployment["spec"]["selector"]


@pytest.mark.parametrize("role", ["worker", "updater", "api"])
def test_probes_ask_our_endpoints(role: str) -> None:
    own = container(objects("Deployment")[role])
    assert {p["containerPort"] for p in own["ports"]} == {int(settings()["STREAMS_HTTP_PORT"])}
    assert own["args"] == [role]
    assert own["livenessProbe"]["httpGet"]["path"] == own["startupProbe"]["httpGet"]["path"] == "/livez"
    assert own["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("maker", POD_MAKERS, ids=lambda d: d["metadata"]["name"])
def test_pods_keep_the_restricted_standard(maker: dict[str, Any]) -> None:
    pod = maker["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for one in (*pod.get("initContainers", ()), *pod["containers"]):
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in one["volumeMounts"]}
        volumes = {
            v["name"] for v in (*pod["volumes"], *map(_claim, maker["spec"].get("volumeClaimTemplates", ())))
        }
        assert mounted <= volumes


def _claim(template: dict[str, Any]) -> dict[str, Any]:
    return {"name": template["metadata"]["name"]}


def test_workers_are_scaled_by_every_queue_they_drain() -> None:
    scaled = next(d for d in BASE if d["kind"] == "ScaledObject")
    queues = {trigger["metadata"]["queueName"] for trigger in scaled["spec"]["triggers"]}
    ours = {s.queue for s in load_subscriptions(DEFAULT_HANDLERS) if s.store.name == "POSTGRES"}
    assert queues == ours
    assert scaled["spec"]["scaleTargetRef"]["name"] in objects("Deployment")
    lanes = sum(s.batch.lanes for s in load_subscriptions(DEFAULT_HANDLERS) if s.store.name == "POSTGRES")
    most = scaled["spec"]["maxReplicaCount"] * (lanes + 2) + 6 * 8  # and the API's pools in use
    assert most < int(parameters()["max_connections"])


def test_the_image_is_this_version() -> None:
    (image,) = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["images"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image["newTag"] == project["version"]


def parameters() -> dict[str, str]:
    """What infra/postgres/postgresql.conf sets."""
    lines = (INFRA / "postgres" / "postgresql.conf").read_text().splitlines()
    found = (re.match(r"([a-z_.]+)\s*=\s*'?(.*?)'?\s*(?:#.*)?$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_cloudnativepg_runs_our_postgresql_conf() -> None:
    (cluster,) = documents((KUBERNETES / "servers" / "postgres.yaml").read_text())
    file, theirs = parameters(), cluster["spec"]["postgresql"]["parameters"]
    assert cluster["spec"]["postgresql"]["shared_preload_libraries"] == [file.pop("shared_preload_libraries")]
    assert theirs.keys() == file.keys()
    # What the file marks as to be scaled with the machine, and nothing else.
    marked = set(
        re.findall(
            r"^([a-z_]+) = .*# scale:", (INFRA / "postgres" / "postgresql.conf").read_text(), re.MULTILINE
        )
    )
    assert {name for name in file if file[name] != theirs[name]} <= marked | {"min_wal_size"}


def test_the_rabbitmq_operator_runs_our_rabbitmq_conf() -> None:
    (cluster,) = documents((KUBERNETES / "servers" / "rabbitmq.yaml").read_text())
    file = (INFRA / "rabbitmq" / "rabbitmq.conf").read_text().splitlines()
    ours = [line for line in file if line and not line.startswith("#")]
    assert cluster["spec"]["rabbitmq"]["additionalConfig"].splitlines() == ours
