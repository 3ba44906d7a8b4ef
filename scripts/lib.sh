# Shared by the scripts beside it; sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV="$ROOT/.venv"

say() { printf '%s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Every argument vector in AS_ROOT + command runs with root's rights; fails where we have none.
find_root_rights() {
  if [ "$(id -u)" -eq 0 ]; then
    AS_ROOT=(env)
  elif command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then
    AS_ROOT=(sudo -n env)
  else
    return 1
  fi
}

may_install() {
  [ "${STREAMS_INSTALL:-yes}" != no ] && command -v apt-get >/dev/null 2>&1 && find_root_rights
}

index_is_old() {
  [ -z "$(find /var/lib/apt/lists -maxdepth 1 -type f -name '*Packages*' -mtime -7 -print -quit 2>/dev/null)" ]
}

# Debian starts a service as soon as it is installed, on the standard port, which nobody asked for here.
# The policy dies with this script even if it is killed: once our process is gone it allows and deletes itself.
hold_services() {
  local policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] && return 0
  HELD_POLICY=$policy
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nkill -0 %d 2>/dev/null && exit 101\nrm -f %s\nexit 0\n' "$$" "$policy" |
    "${AS_ROOT[@]}" sh -c 'cat >"$1" && chmod 755 "$1"' sh "$policy"
}

release_services() {
  [ -z "${HELD_POLICY:-}" ] || "${AS_ROOT[@]}" rm -f "$HELD_POLICY"
  HELD_POLICY=
}

# Descriptor 9 is setup's lock: a daemon that a package starts must not inherit it.
apt() {
  "${AS_ROOT[@]}" DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" \
    >>"$APT_LOG" 2>&1 </dev/null 9>&-
}

apt_install() {
  say "installing $* (Debian packages)"
  APT_LOG=$(mktemp)
  trap release_services EXIT
  hold_services
  if index_is_old; then apt update || true; fi
  # A package index that is merely stale shows as a 404 on install: refresh it once.
  if ! apt install --no-install-recommends "$@" &&
    ! { apt update && apt install --no-install-recommends "$@"; }; then
    tail -n 20 "$APT_LOG" >&2
    rm -f "$APT_LOG"
    die "apt-get could not install: $*"
  fi
  rm -f "$APT_LOG"
  release_services
  trap - EXIT
}
