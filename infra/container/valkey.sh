#!/bin/sh
# Starts Valkey with the users of users.acl, as an ordinary user.
#
# Their passwords come in the environment and leave it as SHA-256 sums in a file that only the server
# can read. Root is needed for as long as it takes to give the data folder away; the server has none
# of its rights.
set -eu

users=/run/valkey/users.acl
umask 077
rules=$(cat /etc/headwater/users.acl)
for name in ADMIN API ORCHESTRATOR PERSISTER OPERATOR; do
  eval "password=\${REDIS_${name}_PASSWORD:?is not set: make secrets}"
  sum=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
  rules=$(printf '%s\n' "$rules" | sed "s/#@$name@/#$sum/")
  unset "REDIS_${name}_PASSWORD"
done
printf '%s\n' "$rules" >"$users"
chown 999:999 /run/valkey "$users" /data

# The append-only file is the one copy: snapshots would only add forks. Streams that are not archived
# yet must never be evicted: better refuse a write.
# Its own guard against strangers would not know of users.
exec setpriv --reuid 999 --regid 999 --clear-groups --inh-caps=-all --no-new-privs \
  valkey-server --bind 0.0.0.0 --port 6379 --protected-mode no --dir /data --aclfile "$users" \
  --appendonly yes --appendfsync "${REDIS_APPENDFSYNC:-everysec}" --save '' \
  --maxmemory "${REDIS_MAXMEMORY:-512mb}" --maxmemory-policy noeviction --io-threads 1
