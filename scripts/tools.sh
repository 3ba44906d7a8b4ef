#!/usr/bin/env bash
# Makes sure that the programs which only the tests need are here: Prometheus and its promtool.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

missing=()
{ command -v promtool && command -v prometheus; } >/dev/null 2>&1 || missing+=(prometheus)
[ ${#missing[@]} -eq 0 ] && exit 0

may_install || die "missing ${missing[*]}, and no right to install here: run" \
  "'apt-get install --no-install-recommends ${missing[*]}' as root."
apt_install "${missing[@]}"
