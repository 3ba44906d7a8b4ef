"""The image: pinned, checked by hash, not root, and its lock is the part of ours that the service needs."""

from __future__ import annotations

import re
import tomllib

import yaml

from streams.cli.commands import app
from tests.deploy.compose import INFRA, OURS, ROOT, service
from tests.unit.test_lock import requirements

DOCKERFILE = (INFRA / "docker" / "Dockerfile").read_text()


def test_bases_are_pinned_and_one() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1, "a virtual environment moves between equal Pythons only"
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])


def test_packages_are_checked_by_hash() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "pip" in line and " install " in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line


def test_it_is_not_root_and_copies_what_is_there() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in names.split():
            assert (ROOT / name).exists(), name
            assert f"!{name.removeprefix('./')}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_its_lock_is_the_runtime_part_of_ours() -> None:
    everything, runtime = requirements(), requirements("requirements.runtime.lock")
    assert runtime
    assert {name: everything.get(name) for name in runtime} == runtime
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {re.split(r"[\[<>=!~; ]", r)[0].lower() for r in project["project"]["dependencies"]}
    assert asked <= runtime.keys()
    assert not {"pytest", "mypy", "ruff", "twine"} & runtime.keys()


def test_commands_that_containers_run_exist() -> None:
    known = {command.name for command in app.registered_commands} | {g.name for g in app.registered_groups}
    jobs = list(yaml.safe_load_all((INFRA / "kubernetes" / "base" / "migrate.yaml").read_text()))
    pod = jobs[0]["spec"]["template"]["spec"]
    run = [service(name)["command"][0] for name in OURS]
    run += [container["args"][0] for container in (*pod["initContainers"], *pod["containers"])]
    assert set(run) <= known
