#!/usr/bin/env bash
# Makes .venv from requirements.lock and the servers' binaries available; doing it again costs nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LOCK="$ROOT/requirements.lock"
STAMP="$VENV/.installed"  # what is installed; written last
BROKEN="$VENV/.installing" # an install that never ended: nothing inside can be trusted

fits() { "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
# Debian splits ensurepip off into python3-venv; without it `-m venv` fails half-way.
makes_venvs() { "$1" -I -c 'import venv, ensurepip' >/dev/null 2>&1; }

choose_python() {
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer."
    makes_venvs "$PYTHON" || install_venv_module "$PYTHON"
    return
  fi
  # Distributions build their Python with profile-guided optimization; one that was built from source is without
  # by default, and a worker on it takes a seventh more CPU (docs/decisions/0021-one-transaction-at-a-time.md).
  local candidate found=
  for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14; do
    fits "$candidate" || continue
    found=${found:-$candidate}
    if makes_venvs "$candidate"; then
      PYTHON=$candidate
      return
    fi
  done
  if [ -z "$found" ]; then
    may_install || die "Python 3.11 or newer is needed: install it, or set PYTHON to one."
    apt_install python3 python3-venv
    found=/usr/bin/python3
    fits "$found" || die "Python 3.11 or newer is needed, and this system's packages have none: set PYTHON to one."
  fi
  PYTHON=$found
  makes_venvs "$PYTHON" || install_venv_module "$PYTHON"
}

install_venv_module() {
  local package
  package="$("$1" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  may_install || die "$1 cannot make virtual environments: install $package as root, or set PYTHON to another Python."
  apt_install "$package"
  makes_venvs "$1" || die "$1 cannot make virtual environments, even with $package: set PYTHON to another Python."
}

# The folder is part of it: a copied or moved checkout has a .venv whose scripts point to the old place.
wanted() { printf '%s\n' "$ROOT" | cat - "$LOCK" "$ROOT/pyproject.toml" | sha256sum | cut -d' ' -f1; }

venv_works() {
  [ ! -e "$BROKEN" ] && [ -e "$STAMP" ] && fits "$VENV/bin/python" || return 1
  [ "$(sed -n 2p "$STAMP")" = "$ROOT" ] || return 1
  [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$VENV/bin/python")" ]
}

version_of() { "$1" -I -c 'import sys; print(sys.version)' 2>/dev/null || true; }

pip_install() {
  env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PYTHONPATH -u PYTHONHOME \
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "$@" 9>&-
}

install() {
  if ! venv_works; then
    choose_python
    say "creating .venv with $("$PYTHON" -I --version)"
    mkdir -p "$VENV"
    "$PYTHON" -I -m venv --clear "$VENV"
  fi
  say "installing requirements.lock"
  touch "$BROKEN"
  pip_install --require-hashes -r "$LOCK"
  pip_install --no-build-isolation -e "$ROOT"
  printf '%s\n%s\n' "$1" "$ROOT" >"$STAMP"
  rm -f "$BROKEN"
}

up_to_date() {
  [ -z "${PYTHON:-}" ] || venv_works || return 1
  [ ! -e "$BROKEN" ] && [ -x "$VENV/bin/python" ] && [ "$(head -n 1 "$STAMP" 2>/dev/null)" = "$1" ]
}

main() {
  [ -f "$LOCK" ] || die "requirements.lock is missing: restore it, or write it with 'make lock'."
  "$ROOT/scripts/servers.sh"
  local key
  key=$(wanted)
  up_to_date "$key" && return
  [ -w "$ROOT" ] || die "$ROOT is not writable for $(id -un): work in a checkout of your own."
  exec 9>"$ROOT/.setup.lock"
  flock 9 # a second run waits here, then finds the work done
  up_to_date "$key" || install "$key"
}

main
