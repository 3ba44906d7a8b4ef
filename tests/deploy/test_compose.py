"""compose.yaml holds what the specification, the code and the files beside it say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streams.settings import Settings
from tests.deploy import compose
from tests.deploy.compose import FILE, INFRA, OURS, ROOT

SERVICES = compose.load()["services"]
KNOWN = {variable for variable, _, _ in Settings.table()}


def schema(name: str) -> dict[str, Any]:
    found = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / name
    parsed: dict[str, Any] = json.loads(found.read_text())
    return parsed


def test_it_is_what_the_specification_allows() -> None:
    validator = jsonschema.validators.validator_for(specification := schema("compose-spec.json"))
    assert [error.message for error in validator(specification).iter_errors(compose.load())] == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in OURS:
        assert image == "agent-streams:${STREAMS_VERSION:-dev}"
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), f"{image}: an exact version, please"


def test_every_file_it_names_exists() -> None:
    secrets = {secret["file"] for secret in compose.load()["secrets"].values()}
    files = [
        source
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if (source := volume.split(":")[0]).startswith(".")
    ]
    missing = [f for f in files if not (FILE.parent / f).exists()]
    assert files
    assert missing == []
    assert all(secret.startswith("./secrets/") for secret in secrets)
    build = SERVICES["migrate"]["build"]
    assert (FILE.parent / build["context"] / build["dockerfile"]).is_file()


def test_prometheus_asks_services_that_there_are() -> None:
    scraped = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    names = {name for job in scraped for found in job.get("dns_sd_configs", ()) for name in found["names"]}
    targets = [t for job in scraped for fixed in job.get("static_configs", ()) for t in fixed["targets"]]
    names |= {target.partition(":")[0] for target in targets} - {"localhost"}
    assert len(names) > 5
    assert names <= SERVICES.keys()


@pytest.mark.parametrize("name", OURS)
def test_our_services_get_settings_that_exist_and_only_the_secrets_they_name(name: str) -> None:
    service = SERVICES[name]
    environment = service["environment"]
    unknown = [v for v in environment if v not in KNOWN and not v.startswith("OTEL_")]
    assert unknown == []
    files = {value.removeprefix("/run/secrets/") for v, value in environment.items() if v.endswith("_FILE")}
    assert files == set(service["secrets"])
    assert not any("password" in str(value).lower() for value in environment.values())


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_no_rights_and_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert not service.get("privileged")
    if name in OURS:
        assert service["read_only"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", SERVICES)
def test_it_waits_for_what_is_there(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"], other
        if wait["condition"] == "service_completed_successfully":
            assert other in ("migrate", "topology")


@pytest.mark.parametrize("name", ["worker", "updater", "api"])
def test_a_stop_has_the_time_that_draining_takes(name: str) -> None:
    service = SERVICES[name]
    drain = float(service["environment"]["STREAMS_SHUTDOWN_SECONDS"])
    assert compose.seconds(service["stop_grace_period"]) >= drain + 15  # what closing takes: streams/app.py
    assert service["command"] == [name]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    script = str(INFRA / "compose" / "make_secrets.py")
    subprocess.run([sys.executable, "-I", script, "--into", str(folder)], check=True, capture_output=True)
    return folder


def test_all_secrets_are_made_and_closed_to_others(made: Path) -> None:
    wanted = {Path(secret["file"]).name for secret in compose.load()["secrets"].values()}
    assert wanted <= {path.name for path in made.iterdir()}
    assert made.stat().st_mode & 0o077 == 0


def test_nothing_but_urls_and_passwords_holds_a_password(made: Path) -> None:
    passwords = [p.read_text() for p in made.iterdir() if p.name.endswith("-password")]
    passwords += [
        match[1]
        for p in made.iterdir()
        if p.name.endswith("-url")
        if (match := re.search(r":([^:/]+)@", p.read_text()))
    ]
    assert len(passwords) > 10
    for name in ("postgres-passwords.sql", "rabbitmq-definitions.json", "redis-users.acl"):
        text = (made / name).read_text()
        assert not [password for password in passwords if password in text], name


def test_secrets_stay_out_of_git_image_and_wheel() -> None:
    assert "infra/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "infra/compose/secrets" in (ROOT / ".dockerignore").read_text().splitlines()
    assert '"/infra/compose/secrets"' in (ROOT / "pyproject.toml").read_text()
