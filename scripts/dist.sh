#!/usr/bin/env bash
# Builds dist/*.tar.gz and dist/*.whl, the same bytes from the same commit, and checks them.
#   --tag vX.Y.Z  refuse unless that is the version, and the changelog has an entry for it that is dated
#   --try         install the wheel into a fresh environment and run `streams demo` there, outside the checkout
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
try= tag=
while [ $# -gt 0 ]; do
  case $1 in
    --try) try=yes ;;
    --tag) tag=${2:?--tag needs a tag}; shift ;;
    *) die "unknown argument: $1" ;;
  esac
  shift
done

version=$("$VENV/bin/hatchling" version)
if [ -n "$tag" ]; then
  [ "$tag" = "v$version" ] || die "the tag is $tag, the version in pyproject.toml is $version"
  grep -Eq "^## ${version//./\\.} \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$" CHANGELOG.md ||
    die "CHANGELOG.md has no entry '## $version (YYYY-MM-DD)'"
fi

# The time stamps inside: the commit's, or a fixed one where there is no history.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 1577836800)}"
export SOURCE_DATE_EPOCH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

build() { "$VENV/bin/python" -m hatchling build -d "$1" >/dev/null 2>&1 || die "hatchling could not build"; }
build "$scratch/first"
build "$scratch/second"
diff -r "$scratch/first" "$scratch/second" >&2 || die "two builds of the same tree differ"
"$VENV/bin/twine" check --strict "$scratch/first"/* >&2
# What an installer makes of the source distribution must be the same wheel.
mkdir "$scratch/unpacked"
tar -xzf "$scratch/first"/*.tar.gz -C "$scratch/unpacked"
(cd "$scratch/unpacked"/* && "$VENV/bin/python" -m hatchling build -t wheel -d "$scratch/from-sdist" >/dev/null 2>&1)
cmp "$scratch/first"/*.whl "$scratch/from-sdist"/*.whl >&2 || die "the wheel from the sdist is another one"

rm -rf dist
mkdir dist
cp "$scratch/first"/* dist/
(cd dist && sha256sum -- *.tar.gz *.whl | tee SHA256SUMS)

[ -n "$try" ] || exit 0
"$VENV/bin/python" -m venv "$scratch/venv"
env -u PYTHONPATH "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  --require-hashes -r requirements.runtime.lock
env -u PYTHONPATH "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
cd /
env -u PYTHONPATH "$scratch/venv/bin/python" -m pip check >&2
say "streams $("$scratch/venv/bin/streams" --version) in a fresh environment:"
env -u PYTHONPATH "$scratch/venv/bin/streams" demo --events 2000 --rate 1000
# What it keeps for a look lies in a folder of this installation's own, which goes with it.
rm -rf "$(env -u PYTHONPATH "$scratch/venv/bin/python" -c 'from streams.stack.places import default_parent; print(default_parent())')"
