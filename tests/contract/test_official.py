"""What the official tools make of asyncapi.yaml: the parser, and Modelina's generated classes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from streams.asyncapi import build, to_json
from streams.registry import load_subscriptions
from tests.contract.judges import DOCUMENT, LIMITS, MESSAGES, SUBSCRIPTIONS, service_says

ROOT = Path(__file__).parent.parent.parent
JS = ROOT / "tests" / "js"

# The first time, Debian's nodejs and npm and the packages of tests/js/package-lock.json are installed.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def tools() -> Path:
    """A folder with the packages, and our scripts: Node looks for packages beside the script."""
    done = subprocess.run([ROOT / "scripts" / "node.sh", JS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    for script in JS.glob("*.mjs"):
        copy(script, folder)
    return folder


async def run(folder: Path, *command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_the_official_parser_finds_nothing_wrong(tools: Path) -> None:
    report = json.loads(await run(tools, "node", "parse.mjs", ROOT / "asyncapi.yaml"))
    # It informs that there is a newer AsyncAPI; 3.0.0 is what most tools know.
    assert {found["code"] for found in report["diagnostics"]} <= {"asyncapi-latest-version"}
    assert report["valid"]
    assert set(report["channels"]) == set(DOCUMENT["channels"])
    assert set(report["operations"]) == set(DOCUMENT["operations"])
    assert set(report["messages"]) == set(MESSAGES)


async def test_nor_in_a_document_of_handlers_of_another_package(tools: Path, tmp_path: Path) -> None:
    document = build(load_subscriptions(["billing.handlers", "handlers.invalidations"]), LIMITS)
    (tmp_path / "billing.json").write_bytes(to_json(document))
    report = json.loads(await run(tools, "node", "parse.mjs", tmp_path / "billing.json"))
    assert {found["code"] for found in report["diagnostics"]} <= {"asyncapi-latest-version"}
    assert "produce.invoices" in report["operations"]


async def test_the_official_parser_does_find_what_is_wrong(tools: Path, tmp_path: Path) -> None:
    broken: Any = json.loads(to_json(DOCUMENT))
    broken["channels"]["tasks"]["bindings"]["amqp"]["is"] = "topic"
    broken["components"]["messages"]["task.created"]["examples"][0]["payload"] = 1
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    report = json.loads(await run(tools, "node", "parse.mjs", tmp_path / "broken.json"))
    assert not report["valid"]


async def test_generated_classes_compile_and_write_what_the_service_takes(
    tools: Path, tmp_path: Path
) -> None:
    document = tmp_path / "asyncapi.json"
    document.write_bytes(to_json(DOCUMENT))
    await run(tools, "node", "generate.mjs", document, tmp_path / "generated")
    copy(JS / "tsconfig.json", tmp_path / "generated")
    compiled = tmp_path / "compiled"
    await run(tools, "node_modules/.bin/tsc", "-p", tmp_path / "generated", "--outDir", compiled)
    bodies = json.loads(await run(tools, "node", "roundtrip.mjs", document, compiled))
    homes = {name: queue for queue, s in SUBSCRIPTIONS.items() for name in s.types}
    assert bodies.keys() >= homes.keys()
    for name, queue in homes.items():
        (item,) = service_says(bodies[name].encode(), queue)
        assert item.error is None, f"{name}: {item.error}"
        assert json.loads(bodies[name]) == MESSAGES[name]["examples"][0]["payload"]
