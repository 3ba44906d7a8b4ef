#!/usr/bin/env bash
# Installs the locked packages of a folder with a package.json into .node/ and prints where; again costs nothing.
# The folder itself stays as it is. Node.js and npm come from Debian's packages where they are missing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -eq 1 ] && [ -f "$1/package-lock.json" ] || die "usage: node.sh FOLDER, which holds a package-lock.json"
source=$(cd "$1" && pwd -P)
target="$ROOT/.node/$(basename "$source")"

missing=()
command -v node >/dev/null 2>&1 || missing+=(nodejs)
command -v npm >/dev/null 2>&1 || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
  may_install || die "missing ${missing[*]}, and no right to install here: run" \
    "'apt-get install --no-install-recommends ${missing[*]}' as root."
  apt_install "${missing[@]}"
fi

mkdir -p "$target"
exec 9>"$target/.lock"
flock 9
key=$(cat "$source/package.json" "$source/package-lock.json" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$target/.installed" 2>/dev/null)" != "$key" ]; then
  say "installing $(basename "$source") (npm)"
  rm -rf "$target/node_modules" "$target/.installed"
  cp "$source/package.json" "$source/package-lock.json" "$target/"
  (cd "$target" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error 9>&- >&2)
  printf '%s\n' "$key" >"$target/.installed"
fi
printf '%s\n' "$target"
