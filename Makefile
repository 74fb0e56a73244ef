# The project's commands. `make` alone lists them.

SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
STACK := $(BIN)/python -m compose.local
ONE_WAY := tests/integration/test_end_to_end.py::test_every_reading_becomes_one_row_or_one_dead_letter
# Written last, and named after everything that the virtual environment is made of: a half-made one has no such file,
# an outdated or moved one has another. One whose Python the system has replaced since finds no packages.
READY := .venv/ready-$(shell { cat pyproject.toml constraints.txt; pwd; } | sha256sum | cut -c1-12)
_ := $(shell [ ! -e $(READY) ] || $(BIN)/python -c 'import supervisor' 2>&1 || rm $(READY))

.DEFAULT_GOAL := help
.PHONY: help setup up restart down run status test test-quick check bench chaos ha upgrade-test fuzz pictures docker-test k8s-test clean

help:  ## show this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@$(PYTHON) -c 'from compose.local import ports; print(ports.usual())'

setup: $(READY)  ## make the virtual environment, the servers' root file system and Kafka, once
	@$(STACK) ground

up: $(READY)  ## start servers and processes in the background, and print their addresses
	@$(STACK) up

restart: $(READY)  ## restart one of them: NAME=worker (or gateway, redis, ...)
	@$(STACK) restart $(NAME)

down:  ## stop everything; the data stays
	@if [ -x $(BIN)/python ]; then $(STACK) down; else echo "Nothing was running"; fi

run: $(READY)  ## start everything and a simulated fleet, with a live view; Ctrl-C stops everything
	@$(STACK) run

status: $(READY)  ## show what is running
	@$(STACK) status

test: setup  ## run every test, on servers of its own; STACKS=1 for one set of them instead of two
	@STACKS=$(STACKS) sh tests/all.sh $(BIN)/pytest

test-quick: setup  ## the unit tests with fewer examples, and one end-to-end test: two minutes
	@$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --hypothesis-profile=quick tests/unit $(ONE_WAY)

check: $(READY)  ## formatting, lint, types, import rules, dependencies
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/python -m tests.audit

bench: setup  ## measure against the database's own limit; ONLY=drain (latency, growth, scale, ...); COMPARE=REV in turn with another
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(COMPARE),--compare $(COMPARE))

chaos: setup  ## break every component under load, and print the outcome; SEED=N for an order, LONG=1 for 60 s
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(LONG),--long)

ha: setup  ## lose and trouble machines of Redis, Kafka and PostgreSQL under load, FAILOVERS=24 of each; ONLY=redis,kafka-troubles,pairs; WRITE=1 for docs/failures.md
	@$(BIN)/python -m tests.ha $(if $(ONLY),--only $(ONLY)) $(if $(FAILOVERS),--failovers $(FAILOVERS)) $(if $(SEED),--seed $(SEED)) $(if $(WRITE),--write)

upgrade-test: setup  ## replace an earlier revision's processes under load, one after another; FROM=REV, SEED=N, WRITE=1 for docs/operate.md
	@$(BIN)/python -m tests.upgrade $(FROM) $(if $(SEED),--seed $(SEED)) $(if $(WRITE),--write)

fuzz: setup  ## a hundred thousand hostile MQTT requests, and payloads of each decoder, each answered or refused; SEED=N for the same ones
	@$(BIN)/python -m tests.chaos.fuzz_forms $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.chaos.fuzz $(if $(SEED),--seed $(SEED))

pictures: setup  ## make the pictures of the console in docs, in a real browser
	@SLUICE_PICTURES=docs/pictures $(BIN)/python -m pytest -q tests/integration/test_console_journeys.py -k 'operator or tenant'

docker-test: setup  ## start the Compose stack with Docker, as root, and prove what docs/deploy.md says; QUICK=1 without restarts; ONLY=WORD,...
	@$(BIN)/python -m tests.docker $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write)

k8s-test: setup  ## make a Kubernetes node, as root, and prove what the chart promises; QUICK=1 without restarts; ONLY=WORD,...; NODE=1 to use it
	@$(BIN)/python -m tests.k8s $(if $(NODE),--node) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write)

clean:  ## stop everything and remove data, logs, passwords and settings, without asking
	@if [ -x $(BIN)/python ]; then $(STACK) clean; for dir in .local/test*/; do $(STACK) clean --dir $$dir; done; fi

$(READY):
	@sh compose/local/venv.sh "$(PYTHON)" $(READY)
