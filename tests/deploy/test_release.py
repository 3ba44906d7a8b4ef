"""Releases: one version, the same bytes each time, what an installation needs; and the workflows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.deploy.compose import ROOT
from tests.deploy.test_compose import schema

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(into: Path, *arguments: str, cwd: Path = ROOT) -> list[Path]:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(into), *arguments],
        cwd=cwd, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    return sorted(into.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    sdist, wheel = sorted(build(tmp_path_factory.mktemp("dist")), key=lambda path: path.suffix)
    return wheel, sdist


def test_two_builds_are_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    again = {path.name: path.read_bytes() for path in build(tmp_path)}
    assert again == {path.name: path.read_bytes() for path in built}


def test_the_sdist_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    (again,) = build(tmp_path / "dist", "-t", "wheel", cwd=folder)
    assert again.read_bytes() == wheel.read_bytes()
    assert not [name for name in names if "/infra/compose/secrets/" in name or name.endswith(".pyc")]


def test_the_wheel_holds_what_an_installation_reads(built: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(built[0])
    names = set(archive.namelist())
    wanted = {"postgresql.conf", "logins.sql", "redis.conf", "users.acl", "rabbitmq.conf", "definitions.json"}
    assert wanted <= {Path(name).name for name in names if name.startswith("streams/_infra/")}
    assert "streams/_infra/rabbitmq/enabled_plugins" in names
    migrations = {f"schemas/sql/{path.name}" for path in (ROOT / "schemas" / "sql").glob("*.sql")}
    assert migrations <= names


def test_the_metadata_says_what_it_is_and_needs(built: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(built[0])
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(archive.read(name))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    # yoyo-migrations does not say that it needs it; Python 3.12 and later have none by themselves.
    assert any(requirement.startswith("setuptools") for requirement in metadata.get_all("Requires-Dist", []))
    command = [sys.executable, "-m", "twine", "check", "--strict", *(str(path) for path in built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_there_is_one_version() -> None:
    newest = re.search(
        r"^## (\S+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == PROJECT["version"]
    said = subprocess.run(
        [str(Path(sys.executable).parent / "streams"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == PROJECT["version"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_what_the_forge_allows(path: Path) -> None:
    # To YAML 1.1, `on` is a truth value.
    workflow = {
        ("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text()).items()
    }
    specification = schema("github-workflows.json")
    validator = jsonschema.validators.validator_for(specification)(specification)
    assert [error.message for error in validator.iter_errors(workflow)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_pinned_actions_with_few_rights(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{action} is not pinned by commit"
    targets = (ROOT / "Makefile").read_text()
    for command in (step["run"] for step in steps if step.get("run", "").startswith("make ")):
        assert f"\n{command.split()[1]}:" in targets, command


def test_every_supported_python_is_tested() -> None:
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"][
        "strategy"
    ]["matrix"]
    said = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    assert set(matrix["python"]) == said
