#!/usr/bin/env bash
# Makes sure that PostgreSQL, Redis and RabbitMQ can be started from this machine's binaries.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Debian keeps these off an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

has_postgres() {
  local initdb version
  for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb || true)"; do
    [ -x "$initdb" ] || continue
    version=$("$initdb" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
    [ "${version:-0}" -ge 15 ] && return 0
  done
  return 1
}

has_redis() { command -v redis-server >/dev/null 2>&1; }

has_rabbitmq() {
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1
}

if [ -n "${AMQP_URL:-}" ] && [ -n "${DATABASE_URL:-}" ] && [ -n "${REDIS_URL:-}" ]; then
  exit 0
fi

missing=()
has_rabbitmq || missing+=(rabbitmq-server)
has_redis || missing+=(redis-server)
has_postgres || missing+=(postgresql)
[ ${#missing[@]} -eq 0 ] && exit 0

may_install || die "missing ${missing[*]}, and no right to install here: run" \
  "'apt-get install --no-install-recommends ${missing[*]}' as root," \
  "or set AMQP_URL, DATABASE_URL and REDIS_URL to servers you have."
apt_install "${missing[@]}"

has_rabbitmq && has_redis || die "the packages are installed but rabbitmq-server or redis-server cannot be found"
has_postgres || die "PostgreSQL 15 or newer is needed: install it, or set AMQP_URL, DATABASE_URL and REDIS_URL."
