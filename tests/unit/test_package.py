"""What is installed: typed packages, everything they read, and one program under two names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_wheel_holds_what_it_needs(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in ("streams", "handlers", "schemas")} <= names
    assert {"streams/asyncapi/page/page.css", "schemas/sql/0001.engine.sql"} <= names
    assert not {name for name in names if name.startswith(("tests/", "docs/"))}


def test_python_m_streams_is_streams() -> None:
    by_module = run(sys.executable, "-m", "streams", "--help")
    assert "asyncapi" in by_module
    assert by_module == run(str(Path(sys.executable).parent / "streams"), "--help")
