#!/usr/bin/env bash
# Checks what infra/ deploys, as far as this machine has the tools: renders every overlay and validates each object, lints
# the Dockerfile, parses compose.yaml. Says what it could not do. CRDS=folder: definitions of the operators' kinds.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$ROOT"
has() { command -v "$1" >/dev/null 2>&1 || { say "not done, no $1: $2"; return 1; }; }

if has kubectl "rendering with kustomize"; then
  for folder in infra/kubernetes/overlays/* infra/kubernetes/servers; do
    say "$folder:"
    kubectl kustomize "$folder" |
      "$VENV/bin/python" -m tests.deploy.manifests ${CRDS:+--crds "$CRDS"} -
  done
fi
if has hadolint "linting the Dockerfile"; then
  hadolint infra/docker/Dockerfile && say "infra/docker/Dockerfile: nothing to complain about"
fi
if has promtool "checking Prometheus"; then promtool check config infra/prometheus/prometheus.yml; fi
if docker compose version >/dev/null 2>&1; then
  docker compose --file infra/compose/compose.yaml config --quiet && say "infra/compose/compose.yaml: docker compose takes it"
else
  say "not done, no docker compose: parsing compose.yaml with it (a test holds it against the specification's schema)"
fi
say "infra/ is checked"
