#!/bin/sh
# Prints what .env needs beyond what it has: a secret for everybody who must prove who they are.
#
#   sh infra/container/secrets.sh >>.env
#
# What stands there is left alone: the stores were made with it.
set -eu
has() { [ -f .env ] && grep -q "^$1=" .env; }
secret() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

has COMPOSE_PROFILES || echo COMPOSE_PROFILES=model
has HEADWATER_AUTH_SECRET || echo "HEADWATER_AUTH_SECRET=$(secret)"
for user in admin api orchestrator persister operator; do
  name=$(echo "$user" | tr a-z A-Z)
  has "REDIS_${name}_PASSWORD" && continue
  password=$(secret)
  echo "REDIS_${name}_PASSWORD=$password"
  [ "$user" = admin ] || echo "HEADWATER_REDIS_URL_$name=redis://$user:$password@valkey:6379/0"
done
for user in admin owner api orchestrator persister; do
  name=$(echo "$user" | tr a-z A-Z)
  has "POSTGRES_${name}_PASSWORD" && continue
  password=$(secret)
  echo "POSTGRES_${name}_PASSWORD=$password"
  [ "$user" = admin ] || echo "HEADWATER_DATABASE_URL_$name=postgresql://headwater_$user:$password@postgres:5432/headwater"
done
