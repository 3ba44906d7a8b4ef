#!/usr/bin/env bash
# Runs once, when the volume is new, after logins.sql: the roles get the verifiers of their passwords.
set -euo pipefail
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --file /run/secrets/postgres-passwords.sql
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --command 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements'
