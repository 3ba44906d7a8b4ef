#!/usr/bin/env bash
# Asks an advisory service about every locked version. Arguments: a lock file, if not requirements.lock.
# Exit status: 0 nothing known, 1 vulnerable versions, 2 the service could not be asked (which proves nothing).
# PIP_AUDIT_VULNERABILITY_SERVICE=osv asks OSV instead of PyPI.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock=${1:-$ROOT/requirements.lock}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Always today's auditor, apart from what it audits: it is not locked, and nothing of ours runs with it.
"${PYTHON:-python3}" -m venv "$scratch/venv" &&
  "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit ||
  { say "pip-audit cannot be installed"; exit 2; }

# Without --strict, a package that the service does not know counts as a clean one.
"$scratch/venv/bin/pip-audit" --strict --disable-pip --require-hashes --progress-spinner off \
  --requirement "$lock" >"$scratch/report" 2>"$scratch/errors"
status=$?
cat "$scratch/report"
if [ "$status" -ne 0 ] && ! grep -q '^Found ' "$scratch/errors"; then
  tail -n 3 "$scratch/errors" >&2
  say "the advisory service could not be asked about all of $lock: nothing is known"
  exit 2
fi
tail -n 1 "$scratch/errors" >&2
exit "$status"
