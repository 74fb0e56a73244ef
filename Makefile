# The project's commands. `make` alone lists them.

SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
STACK := $(BIN)/python -m compose.local
# Of the environment and of what it was made of: a half-made one has none, an outdated one an older.
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup up down run status test check bench clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(READY)  ## the virtual environment, the servers' root file system, Kafka: once
	@$(STACK) ground

up: $(READY)  ## start servers and processes in the background, and say what is where
	@$(STACK) up

down: $(READY)  ## stop them all; the data stays
	@$(STACK) down

run: $(READY)  ## start everything and a simulated fleet, and show what happens; Ctrl-C ends it all
	@$(STACK) run

status: $(READY)  ## say what runs
	@$(STACK) status

test: setup  ## every test, on servers of its own
	@$(BIN)/pytest

check: $(READY)  ## formatting, lint, types
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

bench: setup  ## measure against what the database itself can take
	@$(BIN)/python -m tests.bench

clean: $(READY)  ## stop everything and remove the data
	@$(STACK) clean

$(READY): pyproject.toml constraints.txt
	@echo "Making the virtual environment .venv from constraints.txt: usually half a minute to two"
	@rm -rf .venv
	@sh compose/local/venv.sh $(PYTHON) .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
