#!/usr/bin/env bash
# Writes requirements.lock, and from it requirements.runtime.lock, from pyproject.toml. Arguments go to uv, for
# instance --upgrade.
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

compile() { # NAME ARGUMENTS...
  local name=$1
  shift
  "$uv" pip compile pyproject.toml --quiet \
    --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links --annotation-style line \
    --output-file "$scratch/$name" "$@"
  # A lock that names a registry works only where it was made.
  if grep -n '://' "$scratch/$name" >&2; then die "the lock would hold an address: see the lines above."; fi
}

# A comment at the head, once: uv keeps those that it finds.
headed() { { printf '# %s\n' "$2" "$3"; grep -vFx -e "# $2" -e "# $3" "$scratch/$1"; } >"$scratch/new" && cat "$scratch/new" >"$1"; }

# Versions already locked are kept unless --upgrade says otherwise.
[ ! -f requirements.lock ] || cp requirements.lock "$scratch/requirements.lock"
compile requirements.lock --group dev "$@"
headed requirements.lock \
  "The one lock of this project: all that \`make setup\` installs, exact versions with hashes, for every" \
  "platform. Written by \`make lock\` from pyproject.toml; do not edit by hand."

# What the service needs and no more, for the container image: the same versions.
compile requirements.runtime.lock --constraint requirements.lock
headed requirements.runtime.lock \
  "The part of requirements.lock that the service needs: what the container image installs." \
  "Written by \`make lock\`; do not edit by hand."
