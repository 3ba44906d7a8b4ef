"""`streams asyncapi`: the contract as a document."""

from __future__ import annotations

import difflib
import sys
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.asyncapi.compare import Difference

_SHOWN: Final = 40


class Format(StrEnum):
    YAML = "yaml"
    JSON = "json"
    HTML = "html"


def asyncapi(
    yaml: Annotated[bool, typer.Option("--yaml", help="YAML; the default.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
    html: Annotated[bool, typer.Option("--html", help="The page that the read API shows.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write to this file; its ending says the format.", dir_okay=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing; compare with this file and show what differs.", dir_okay=False),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(help="Write nothing; name what breaks users of this earlier document.", dir_okay=False),
    ] = None,
) -> None:
    """Print the AsyncAPI document of the handlers that STREAMS_HANDLERS names.

    Exit status of --check and --since: 0 if nothing differs or breaks, 1 if something does.
    """
    if since is not None:
        _report(_breaking(since))
        return
    if yaml + json + html > 1:
        raise ConfigurationError("choose one of --yaml, --json and --html")
    asked = Format.JSON if json else Format.HTML if html else Format.YAML if yaml else None
    file = check or output
    text = render(asked or _format_of(file))
    if check is not None:
        _compare(check, text)
    elif output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def document() -> dict[str, Any]:
    """The document of the handlers and limits that the environment sets."""
    from streams.asyncapi import Limits, build
    from streams.registry import load_subscriptions
    from streams.settings import Settings

    settings = Settings.load()
    return build(load_subscriptions(settings.handlers), Limits.of(settings))


def render(form: Format) -> str:
    from streams.asyncapi import to_html, to_json, to_yaml

    match form:
        case Format.YAML:
            return to_yaml(document())
        case Format.JSON:
            return to_json(document()).decode()
        case Format.HTML:
            return to_html(document())


def _format_of(file: Path | None) -> Format:
    if file is None:
        return Format.YAML
    known = {".yaml": Format.YAML, ".yml": Format.YAML, ".json": Format.JSON, ".html": Format.HTML}
    if file.suffix not in known:
        raise ConfigurationError(
            f"{file.name}: name it .yaml, .json or .html, or say --yaml, --json or --html"
        )
    return known[file.suffix]


def _compare(file: Path, wanted: str) -> None:
    found = _read(file)
    if found == wanted:
        print(f"{file} is what the code says.")
        return
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), str(file), "the code", lineterm="", n=1
    )
    for line in islice(lines, _SHOWN):
        print(line)
    print(f"{file} is not what the code says: `streams asyncapi --output {file}` writes it anew.")
    raise typer.Exit(1)


def _breaking(file: Path) -> list[Difference]:
    import yaml

    from streams.asyncapi.compare import breaking

    try:
        earlier = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is neither YAML nor JSON: {str(error)[:200]}") from None
    if not isinstance(earlier, dict) or not str(earlier.get("asyncapi", "")).startswith("3."):
        raise ConfigurationError(f"{file} is no AsyncAPI document of version 3")
    return breaking(earlier, document())


def _report(found: list[Difference]) -> None:
    for difference in found:
        print(difference)
    print(f"{len(found)} breaking changes" if found else "Nothing breaks.")
    if found:
        raise typer.Exit(1)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
