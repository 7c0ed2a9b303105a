# Commands for this project; `make` without a target lists them. They need Python 3.11 or newer, and nothing else.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
URL ?= http://localhost:$(or $(API_PORT),8080)
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
EXAMPLES ?= 1000
SEED := $(or $(SEED),$(shell awk 'BEGIN { srand(); print int(rand() * 1000000) }'))
# Sets $python to the first Python that is new enough and can create a virtual environment with pip.
FIND_PYTHON := for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	python=; done
# Runs a command without the developer's environment variables and .env, on SQLite.
ISOLATED := $(BIN)/python -m tests.environment
# `make lint` runs all of these, also after one has failed.
LINTERS := lint-ruff lint-format lint-types lint-imports lint-django lint-deploy lint-migrations lint-migration-safety \
	lint-dependencies

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast lint $(LINTERS) messages pictures bench soak bench-upgrade fuzz chaos build up down logs test-webhook health stats clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- on this machine ---

setup: $(VENV)/everything ## create .venv with all dependencies

run: $(VENV)/service ## run web, worker, beat and a demo customer (Procfile.dev); Ctrl-C stops them
	@exec $(BIN)/python manage.py run

test: $(VENV)/everything ## run all tests on PostgreSQL and Redis, then those of our own SQL on SQLite
	@$(BIN)/python -m tests.stages

test-fast: $(VENV)/everything ## run the tests that start no process, in a minute, on SQLite
	@$(BIN)/python -m tests.stages --fast

lint: $(VENV)/everything ## check style, types, imports, Django's system checks, migrations and dependencies
	@$(MAKE) --no-print-directory --keep-going $(LINTERS)

lint-ruff:
	@echo "== ruff check"
	@$(BIN)/ruff check

lint-format:
	@echo "== ruff format"
	@$(BIN)/ruff format --check

lint-types:
	@echo "== mypy"
	@$(ISOLATED) mypy

lint-imports:
	@echo "== import linter"
	@$(ISOLATED) lint-imports

lint-django:
	@echo "== manage.py check"
	@$(ISOLATED) python manage.py check

lint-deploy:
	@echo "== manage.py check --deploy"
	@$(ISOLATED) python manage.py check --deploy --fail-level WARNING

lint-migrations:
	@echo "== migrations are complete"
	@$(ISOLATED) python manage.py makemigrations --check --dry-run

lint-migration-safety:
	@echo "== migrations are safe while the gateway runs"
	@$(BIN)/python -m tests.install_servers postgresql > /dev/null
	@$(BIN)/python -m tests.migration_safety

lint-dependencies:
	@echo "== known vulnerabilities"
	@$(BIN)/python -m tests.dependency_audit

messages: $(VENV)/everything ## update and compile the German translations of the admin
	@$(ISOLATED) python manage.py makemessages --locale=de --no-location --no-wrap --ignore='.venv/*' --ignore='tests/*'
	@$(ISOLATED) python manage.py compilemessages --verbosity=0 --ignore='.venv/*'

pictures: $(VENV)/everything ## take the screenshots of the README
	@$(BIN)/python -m tests.browser.pictures docs/pictures --readme

bench: $(VENV)/everything ## measure the gateway and compare it with its goals (QUICK=1, SIZE=1000000)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(SIZE),--size $(SIZE))

soak: $(VENV)/everything ## run under constant load for an hour, and report growing memory or response times (SOAK_MINUTES=60)
	@$(BIN)/python -m benchmarks.soak $(if $(SOAK_MINUTES),--minutes $(SOAK_MINUTES))

bench-upgrade: $(VENV)/everything ## measure what senders notice when web and worker restart
	@$(BIN)/python -m benchmarks.upgrade

fuzz: $(VENV)/everything ## run the property tests with EXAMPLES=1000 random inputs each (SEED=7 repeats a run)
	@echo "== SEED=$(SEED) EXAMPLES=$(EXAMPLES)"
	@EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m hypothesis -o timeout=0 --show-capture=no \
		--hypothesis-profile=fuzz --hypothesis-seed=$(SEED) $(FUZZ)

chaos: $(VENV)/everything ## kill processes at random under load and count lost leads (SECONDS=120 RATE=600 EVERY=4 SEED=7 EMBEDDED=1)
	@$(BIN)/python -m tests.install_servers postgresql redis-server
	@$(BIN)/python -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) \
		$(if $(EVERY),--every $(EVERY)) --seed $(SEED) $(if $(EMBEDDED),--embedded)

$(BIN)/python:
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer with its venv module was found. On Debian and Ubuntu:" >&2; \
		echo "    apt-get install python3 python3-venv" >&2; \
		echo "or choose one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$python" --version)"; "$$python" -m venv --clear $(VENV)

# The files record what is installed. An interrupted installation does not create them.
$(VENV)/service: requirements.txt | $(BIN)/python
	@echo "Installing the dependencies of the service"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/everything: requirements-dev.txt $(VENV)/service
	@echo "Installing the dependencies of tests and checks"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# --- in Docker ---

build: ## build the images
	$(COMPOSE) --profile demo build

up: ## start all services
	$(COMPOSE) up --build --detach

down: ## stop all services
	$(COMPOSE) --profile demo down

logs: ## follow the logs
	$(COMPOSE) logs --follow

clean: ## remove the containers and volumes, with all leads
	$(COMPOSE) --profile demo down --volumes --remove-orphans

# --- a running gateway, at URL ---

test-webhook: ## send a test lead
	@curl -sS -X POST $(URL)/webhooks/leads \
		-H "Content-Type: application/json" $${SHARED_SECRET:+-H "X-Shared-Secret: $$SHARED_SECRET"} \
		-d '{"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": true}}'
	@echo

health: ## show whether the gateway responds
	@curl -sS --fail $(URL)/health
	@echo

stats: ## show the number of leads per status
	@curl -sS --fail $${STATS_TOKEN:+-H "Authorization: Bearer $$STATS_TOKEN"} $(URL)/stats/leads/counts
	@echo
