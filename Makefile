# What one does with this project; `make` alone lists it. Needs Python 3.11 or newer, and nothing else installed.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
URL ?= http://localhost:$(or $(API_PORT),8080)
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
EXAMPLES ?= 1000
SEED := $(or $(SEED),$(shell awk 'BEGIN { srand(); print int(rand() * 1000000) }'))
# A shell word that is the first Python found which is new enough and can make an environment with pip in it.
FIND_PYTHON := for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	python=; done
# Runs a command apart from the developer's environment and .env, on the embedded default.
APART := $(BIN)/python -m tests.environment

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast lint messages pictures bench bench-upgrade fuzz chaos build up down logs test-webhook health stats clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- on this machine ---

setup: $(VENV)/everything ## make .venv with everything in it

run: $(VENV)/service ## start web, worker, beat and a demo customer; Ctrl-C stops all of it
	@exec $(BIN)/python manage.py run

test: $(VENV)/everything ## run all tests on PostgreSQL and Redis, then those of our own SQL on SQLite
	@$(BIN)/python -m tests.stages

test-fast: $(VENV)/everything ## run the tests that start no process of the gateway, in a minute
	@$(BIN)/python -m tests.stages --fast

lint: $(VENV)/everything ## check style, types, the direction of imports, Django's own checks, the migrations, and the dependencies
	@echo "== ruff check"
	@$(BIN)/ruff check
	@echo "== ruff format"
	@$(BIN)/ruff format --check
	@echo "== mypy"
	@$(APART) mypy
	@echo "== import linter"
	@$(APART) lint-imports
	@echo "== manage.py check"
	@$(APART) python manage.py check
	@echo "== manage.py check --deploy"
	@$(APART) python manage.py check --deploy --fail-level WARNING
	@echo "== migrations are complete"
	@$(APART) python manage.py makemigrations --check --dry-run
	@echo "== migrations are safe on a live database"
	@$(BIN)/python -m tests.install_servers > /dev/null
	@$(BIN)/python -m tests.migration_safety
	@echo "== known vulnerabilities"
	@$(BIN)/python -m tests.dependency_audit

messages: $(VENV)/everything ## collect the texts of the admin into the German catalogue, and compile it
	@$(APART) python manage.py makemessages --locale=de --no-location --no-wrap --ignore='.venv/*' --ignore='tests/*'
	@$(APART) python manage.py compilemessages --verbosity=0 --ignore='.venv/*'

pictures: $(VENV)/everything ## take the pictures of the README anew
	@$(BIN)/python -m tests.browser.pictures docs/pictures --readme

bench: $(VENV)/everything ## measure what a request and a delivery cost
	@$(BIN)/python -m benchmarks

bench-upgrade: $(VENV)/everything ## measure what senders notice of restarts and of migrations
	@$(BIN)/python -m benchmarks.upgrade

fuzz: $(VENV)/everything ## try the property tests with EXAMPLES=1000 random inputs each, from a SEED that is printed
	@echo "== SEED=$(SEED) EXAMPLES=$(EXAMPLES); what fails says how to see it again"
	@EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m hypothesis -o timeout=0 --show-capture=no \
		--hypothesis-profile=fuzz --hypothesis-seed=$(SEED) $(FUZZ)

chaos: $(VENV)/everything ## kill everything at random under load, and count what is lost (SECONDS=120 RATE=600 EVERY=4 SEED=7 EMBEDDED=1)
	@$(BIN)/python -m tests.install_servers
	@$(BIN)/python -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) \
		$(if $(EVERY),--every $(EVERY)) --seed $(SEED) $(if $(EMBEDDED),--embedded)

$(BIN)/python:
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer with its venv module was found. On Debian and Ubuntu:" >&2; \
		echo "    apt-get install python3 python3-venv" >&2; \
		echo "or name one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; "$$python" -m venv --clear $(VENV)

# The stamps say what is installed; an interrupted installation leaves none.
$(VENV)/service: requirements.txt | $(BIN)/python
	@echo "Installing what the service needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/everything: requirements-dev.txt $(VENV)/service
	@echo "Installing what tests and checks need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# --- in Docker ---

build: ## build the images
	$(COMPOSE) --profile demo build

up: ## start all services in Docker
	$(COMPOSE) up --build --detach

down: ## stop them
	$(COMPOSE) --profile demo down

logs: ## follow their logs
	$(COMPOSE) logs --follow

clean: ## remove their containers and volumes, with every lead in them
	$(COMPOSE) --profile demo down --volumes --remove-orphans

# --- against a gateway that runs, at URL ---

test-webhook: ## send a test lead
	@curl -sS -X POST $(URL)/webhooks/leads \
		-H "Content-Type: application/json" $${SHARED_SECRET:+-H "X-Shared-Secret: $$SHARED_SECRET"} \
		-d '{"email": "test@example.com", "phone": "+49123456789", "zipcode": "66123", "house": {"is_owner": true}}'
	@echo

health: ## ask whether it is well
	@curl -sS --fail $(URL)/health
	@echo

stats: ## show how many leads are in which state
	@curl -sS --fail $${STATS_TOKEN:+-H "Authorization: Bearer $$STATS_TOKEN"} $(URL)/stats/leads/counts
	@echo
