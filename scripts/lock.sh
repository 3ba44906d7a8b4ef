#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml. Arguments go to uv, for instance --upgrade.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

uv="$VENV/bin/uv"
if [ ! -x "$uv" ]; then
  "${PYTHON:-python3}" -m venv "$scratch/venv"
  "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
  uv="$scratch/venv/bin/uv"
fi

# uv does not read pip's configuration: hand over a mirror that is configured there.
if [ -z "${UV_DEFAULT_INDEX:-}" ] && mirror=$("${PYTHON:-python3}" -m pip config get global.index-url 2>/dev/null); then
  export UV_DEFAULT_INDEX="$mirror"
fi

# Versions already locked are kept unless --upgrade says otherwise.
[ ! -f requirements.lock ] || cp requirements.lock "$scratch/requirements.lock"
"$uv" pip compile pyproject.toml --group dev --quiet \
  --universal --python-version 3.11 --generate-hashes \
  --no-header --no-emit-index-url --no-emit-find-links --annotation-style line \
  --output-file "$scratch/requirements.lock" "$@"

{
  printf '# The one lock of this project: all that `make setup` installs, exact versions with hashes, for every\n'
  printf '# platform. Written by `make lock` from pyproject.toml; do not edit by hand.\n'
  cat "$scratch/requirements.lock"
} | awk 'NR <= 2 || !/^# (The one lock|platform\. Written)/' >"$scratch/new"

# A lock that names a registry works only where it was made.
if grep -n '://' "$scratch/new" >&2; then die "the lock would hold an address: see the lines above."; fi
cat "$scratch/new" >requirements.lock
