#!/bin/sh
# The commands of `python -m infra.local`, for the cluster of compose.yaml: `make up ENGINE=compose`
# and so on. Needs Docker with Compose, and nothing else.
set -eu

UP_SECONDS_MAX=300
LOG_LINES=100

if docker compose version >/dev/null 2>&1; then compose='docker compose'; else compose=docker-compose; fi
# A model that has a URL needs no container.
[ -z "${HEADWATER_LLM_BASE_URL:-}" ] || export COMPOSE_PROFILES=

secrets() {
  (umask 077 && sh infra/container/secrets.sh >>.env)
}

# Name and state of every container: a health, or how the one that runs once has ended.
states() {
  docker inspect --format \
    '{{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}-{{.State.ExitCode}}{{end}}' \
    $($compose ps -q --all 2>/dev/null || $compose ps -q)
}

wait_until_ready() {
  ends=$(($(date +%s) + UP_SECONDS_MAX))
  while waiting=$(states | grep -v -e ' healthy$' -e ' exited-0$'); do
    if [ "$(date +%s)" -gt "$ends" ]; then
      printf 'not ready within %s s:\n%s\n' "$UP_SECONDS_MAX" "$waiting" >&2
      exit 1
    fi
    sleep 1
  done
}

up() {
  secrets
  $compose build --quiet migrate proxy $([ -n "${HEADWATER_LLM_BASE_URL:-}" ] || echo model)
  $compose up -d
  wait_until_ready
  $compose exec -T api python -m infra.container welcome --url "http://$($compose port proxy 8080)"
}

command=${1:?up, down, status, logs, token or run}
shift
case $command in
  up) up ;;
  down) $compose down --remove-orphans ;; # also of a profile that is not chosen now
  status) $compose ps ;;
  logs) $compose logs --tail "$LOG_LINES" "$@" ;;
  token) $compose exec -T api python -m infra.container token "$@" ;;
  run)
    shift # the --
    terminal=$([ -t 0 ] && [ -t 1 ] || echo -T)
    # A rebuild makes tables: it needs the rights of who owns them.
    case "$*" in *services.persister.rebuild*) service=migrate ;; *) service=console ;; esac
    $compose run --rm --no-deps $terminal "$service" "$@"
    ;;
  *) echo "$command: no such command" >&2; exit 2 ;;
esac
