# Headwater: everything a person runs by hand. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	--no-warn-conflicts
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

# Where `up` and the like run the cluster: in processes of this machine, or in containers.
ENGINE ?= local
ifeq ($(ENGINE),compose)
CLUSTER := sh infra/container/cluster.sh
PROGRAM := python
else
CLUSTER := $(BIN)/python -m infra.local
PROGRAM := $(BIN)/python
endif

SUB ?= alice
PART ?=
JOB ?=
SPEED ?= 1
OUT ?= .headwater-bench
BENCH ?= usual
ARGS ?=
SEED ?=
REDIS_IMAGE ?= valkey/valkey:9
POSTGRES_IMAGE ?= postgres:18
# Pairs that have every version once.
IMAGES ?= valkey/valkey:9,postgres:18 redis:8,postgres:17 redis:7,postgres:16
FORMER ?=
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
PLOTS := $(VENV)/.installed-bench
READY := $(if $(filter local,$(ENGINE)),$(RUN))

.PHONY: help up down secrets status logs token tail replay transitions dead-letters rebuild \
	test test-containers test-images test-compose test-cluster test-upgrade faults \
	mutations fuzz bench check fmt lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

up: $(READY) ## Start everything, print a first request; ENGINE=compose, here and below: in containers
	@$(CLUSTER) up

down: $(READY) ## Stop everything; the data stay in HEADWATER_DATA_DIR
	@$(CLUSTER) down

secrets: ## Make the passwords of compose.yaml, in .env; those that are there stay
	@umask 077 && sh infra/container/secrets.sh >>.env

status: $(READY) ## Show each part: pid, state, uptime, restarts
	@$(CLUSTER) status

logs: $(READY) ## Show the logs; PART=api for one part, ARGS=-f to follow
	@$(CLUSTER) logs $(PART) $(ARGS)

token: $(READY) ## Print a token for SUB=alice, good for 24 hours
	@$(CLUSTER) token --sub '$(SUB)'

tail: $(READY) ## Follow the events of JOB=… as they come
	@$(CLUSTER) run -- $(PROGRAM) -m infra.console tail '$(JOB)' $(ARGS)

replay: $(READY) ## Play the events of JOB=… again; SPEED=2 is twice as fast
	@$(CLUSTER) run -- $(PROGRAM) -m infra.console replay '$(JOB)' --speed '$(SPEED)' $(ARGS)

transitions: $(READY) ## Show the steps of a day of JOB=…, which may be a thread or a message too
	@$(CLUSTER) run -- $(PROGRAM) -m infra.console transitions '$(JOB)'

dead-letters: $(READY) ## List what was given up on; ARGS='show ID', 'retry ID' (or --all), 'drop ID'
	@$(CLUSTER) run -- $(PROGRAM) -m infra.console dead-letters $(ARGS)

rebuild: $(READY) ## Drop the read model and make it again from the archive
	@$(CLUSTER) run -- $(PROGRAM) -m services.persister.rebuild $(ARGS)

test: $(DEV) $(PLOTS) ## Run the tests; ARGS='-k cancel' picks some
	@$(BIN)/python -m pytest $(ARGS)

test-containers: $(DEV) ## Run what needs servers against containers; REDIS_IMAGE=redis:7 POSTGRES_IMAGE=postgres:16
	@$(BIN)/python -m pytest tests/integration tests/e2e --timeout 300 \
		--redis-image '$(REDIS_IMAGE)' --postgres-image '$(POSTGRES_IMAGE)' $(ARGS)

test-images: $(DEV) ## Do so for every pair of IMAGES='redis:7,postgres:16 …', all versions by default
	@for pair in $(IMAGES); do \
		$(MAKE) test-containers REDIS_IMAGE="$${pair%,*}" POSTGRES_IMAGE="$${pair#*,}"; done

test-compose: $(DEV) ## Bring compose.yaml up from a clean clone, talk to it, kill containers
	@$(BIN)/python -m pytest tests/compose -m compose -p no:randomly $(ARGS)

faults: $(DEV) ## Run the fault suite; SEED=7 repeats a run, ARGS='-k row_06' picks a row
	@SEED='$(SEED)' $(BIN)/python -m pytest tests/faults --thorough $(ARGS)

test-cluster: $(DEV) ## Fail over and reshard a Redis Cluster, and fail over by sentinels, under streams
	@SEED='$(SEED)' $(BIN)/python -m pytest tests/cluster -m 'cluster or not cluster' $(ARGS)

mutations: $(DEV) ## Take mechanisms out one by one, and see that their tests fail
	@$(BIN)/python -m pytest -m mutations $(ARGS)

test-upgrade: $(DEV) ## Run services of the version before beside this one; FORMER=v1.2 names another
	@FORMER='$(FORMER)' $(BIN)/python -m pytest -m upgrade tests/faults/test_upgrade.py $(ARGS)

fuzz: $(DEV) ## Try every call of the OpenAPI document for long; SEED=7 repeats a run, ARGS='--examples 500'
	@$(BIN)/python -m pytest tests/hardening/test_described_surface.py --timeout 0 \
		--examples 200 $(if $(SEED),--surface-seed '$(SEED)') $(ARGS)

bench: $(PLOTS) ## Measure beside the floor, for ten minutes at most; BENCH=full, OUT=folder, ARGS='--only unpaced'
	@$(BIN)/python -m tests.bench --size '$(BENCH)' --out '$(OUT)' $(ARGS)

check: $(DEV) $(PLOTS) ## Lint, formatting, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

fmt: $(DEV) ## Format the code and fix what can be fixed by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(DEV) ## Choose newer versions within requirements*.in and pin them with hashes
	@$(LOCK) --upgrade requirements.in -o requirements.txt
	@$(LOCK) --upgrade --no-deps requirements-local.in -o requirements-local.txt
	@$(LOCK) --upgrade requirements-dev.in -o requirements-dev.txt
	@$(LOCK) --upgrade requirements-bench.in -o requirements-bench.txt

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Headwater needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.12 …" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks the venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUN): $(VENV)/.created requirements.txt requirements-local.txt
	@echo 'Installing what is pinned (once, about a minute) …' >&2
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -r requirements-local.txt
	@touch $@

$(DEV): $(RUN) requirements-dev.txt
	@echo 'Installing the tools for tests and checks …' >&2
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

$(PLOTS): $(DEV) requirements-bench.txt
	@$(INSTALL) -r requirements-bench.txt
	@touch $@
