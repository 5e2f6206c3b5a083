# Headwater: everything a person runs by hand. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER := $(BIN)/python -m infra.local
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	--no-warn-conflicts
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

SUB ?= alice
PART ?=
JOB ?=
SPEED ?= 1
OUT ?=
ARGS ?=
SEED ?=
FORMER ?=
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: help up down status logs token tail replay transitions dead-letters rebuild test faults mutations test-upgrade fuzz bench check fmt lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

up: $(RUN) ## Start everything, wait until it is ready, print a first request
	@$(CLUSTER) up

down: $(RUN) ## Stop everything; the data stay in HEADWATER_DATA_DIR
	@$(CLUSTER) down

status: $(RUN) ## Show each part: pid, state, uptime, restarts
	@$(CLUSTER) status

logs: $(RUN) ## Show the logs; PART=api for one part, ARGS=-f to follow
	@$(CLUSTER) logs $(PART) $(ARGS)

token: $(RUN) ## Print a token for SUB=alice, good for 24 hours
	@$(CLUSTER) token --sub '$(SUB)'

tail: $(RUN) ## Follow the events of JOB=… as they come
	@$(CLUSTER) run -- $(BIN)/python -m infra.console tail '$(JOB)' $(ARGS)

replay: $(RUN) ## Play the events of JOB=… again; SPEED=2 is twice as fast
	@$(CLUSTER) run -- $(BIN)/python -m infra.console replay '$(JOB)' --speed '$(SPEED)' $(ARGS)

transitions: $(RUN) ## Show the steps of a day of JOB=…, which may be a thread or a message too
	@$(CLUSTER) run -- $(BIN)/python -m infra.console transitions '$(JOB)'

dead-letters: $(RUN) ## List what was given up on; ARGS='show ID', 'retry ID' (or --all), 'drop ID'
	@$(CLUSTER) run -- $(BIN)/python -m infra.console dead-letters $(ARGS)

rebuild: $(RUN) ## Drop the read model and make it again from the archive
	@$(CLUSTER) run -- $(BIN)/python -m services.persister.rebuild $(ARGS)

test: $(DEV) ## Run the tests; ARGS='-k cancel' picks some
	@$(BIN)/python -m pytest $(ARGS)

faults: $(DEV) ## Run the fault suite; SEED=7 repeats a run, ARGS='-k row_06' picks a row
	@SEED='$(SEED)' $(BIN)/python -m pytest tests/faults --thorough $(ARGS)

mutations: $(DEV) ## Take mechanisms out one by one, and see that their tests fail
	@$(BIN)/python -m pytest -m mutations $(ARGS)

test-upgrade: $(DEV) ## Run services of the version before beside this one; FORMER=v1.2 names another
	@FORMER='$(FORMER)' $(BIN)/python -m pytest -m upgrade tests/faults/test_upgrade.py $(ARGS)

fuzz: $(DEV) ## Try every call of the OpenAPI document for long; SEED=7 repeats a run, ARGS='--examples 500'
	@$(BIN)/python -m pytest tests/hardening/test_described_surface.py --timeout 0 \
		--examples 200 $(if $(SEED),--surface-seed '$(SEED)') $(ARGS)

bench: $(DEV) ## Measure first token, cancel, tokens per second and CPU; OUT=file.json keeps it
	@$(BIN)/python -m tests.bench $(if $(OUT),--out '$(OUT)') $(ARGS)

check: $(DEV) ## Lint, formatting, types and layers
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
