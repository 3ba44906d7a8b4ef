#!/usr/bin/env bash
# Stops the local stacks of this checkout, then removes all that was made in it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
if [ -x "$VENV/bin/streams" ] && [ -d .stack ]; then
  # A data folder must not be deleted under a running server.
  "$VENV/bin/streams" stack down --all || die "a local stack is still running: stop it, then clean again."
fi
rm -rf .venv .stack .node .setup.lock build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
