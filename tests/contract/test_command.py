"""`streams asyncapi`, as it is called."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from schemas.errors import ConfigurationError
from streams.asyncapi import to_html, to_json, to_yaml
from streams.cli.commands import app
from tests.contract.judges import DOCUMENT


def asyncapi(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["asyncapi", *map(str, arguments)])


def test_it_prints_yaml_json_and_html() -> None:
    assert asyncapi().stdout == asyncapi("--yaml").stdout == to_yaml(DOCUMENT)
    assert asyncapi("--json").stdout == to_json(DOCUMENT).decode()
    assert asyncapi("--html").stdout == to_html(DOCUMENT)
    assert yaml.safe_load(asyncapi().stdout) == json.loads(asyncapi("--json").stdout) == DOCUMENT


@pytest.mark.parametrize("name", ["document.yaml", "document.yml", "document.json", "document.html"])
def test_the_name_of_the_file_says_the_format(tmp_path: Path, name: str) -> None:
    assert asyncapi("--output", tmp_path / name).exit_code == 0
    text = {"yaml": to_yaml(DOCUMENT), "json": to_json(DOCUMENT).decode(), "html": to_html(DOCUMENT)}
    assert (tmp_path / name).read_text() == text[name.rpartition(".")[2].replace("yml", "yaml")]


def test_check_writes_nothing_and_shows_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.yaml"
    file.write_text(to_yaml(DOCUMENT))
    assert asyncapi("--check", file).exit_code == 0
    file.write_text(to_yaml(DOCUMENT).replace("maxLength: 200", "maxLength: 100", 1))
    before = file.read_text()
    result = asyncapi("--check", file)
    assert result.exit_code == 1
    assert re.search(r"^-\s+maxLength: 100$", result.stdout, re.MULTILINE)
    assert file.read_text() == before


def test_since_names_what_breaks(tmp_path: Path) -> None:
    file = tmp_path / "earlier.yaml"
    file.write_text(to_yaml(DOCUMENT))
    assert asyncapi("--since", file).stdout == "Nothing breaks.\n"
    file.write_text(to_yaml(DOCUMENT).replace("maxLength: 200", "maxLength: 300"))
    result = asyncapi("--since", file)
    assert result.exit_code == 1
    assert "message task.created, payload.data.kind: maxLength is 200, it was 300\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "--html"], "choose one of"),
        (["--output", "asyncapi.txt"], "name it .yaml, .json or .html"),
        (["--check", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (["--since", "README.md"], "neither YAML nor JSON|no AsyncAPI document"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], words: str) -> None:
    error = asyncapi(*arguments).exception
    assert isinstance(error, ConfigurationError)
    assert any(word in str(error) for word in words.split("|"))
