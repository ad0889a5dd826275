# Two commands do everything: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TESTS ?= tests

.PHONY: help setup setup-dev run proto lock check test fast e2e bench robustness envoy-check docs fmt clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: .venv/.run ## the environment that `make run` needs, pinned by hash
setup-dev: .venv/.dev ## the environment that tests need too

.venv/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.python requirements.lock pyproject.toml
	@echo "Installing what the mesh needs into .venv …"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

run: setup ## start the assistant on this machine; Ctrl-C ends it
	@exec $(BIN)/mesh up

proto: setup-dev ## generate generated/ from protos/
	protos/generate.sh $(BIN)/python

lock: setup-dev ## pin what pyproject.toml asks for, with hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --extra install pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --extra install --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

check: setup-dev ## format, lint, types, imports, contract, generated files, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy chassis context_svc orchestrator_svc llm_svc media_svc mesh tests benchmarks
	PYTHONPATH=.:generated $(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	@git rev-parse --verify --quiet main >/dev/null && $(BIN)/buf breaking --against '.git#branch=main' || true
	$(BIN)/python -m pytest -n 2 -m "not slow" tests

fast: setup-dev ## the fast tier of the tests
	$(BIN)/python -m pytest -n 2 -m "not slow" $(TESTS)

test: setup-dev ## every test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

e2e: setup-dev ## the tests that start a whole mesh
	$(BIN)/python -m pytest tests/e2e

bench: setup-dev ## measure; a table, and a line in benchmarks/history.jsonl (BENCH="--model default" adds the model's rows)
	@PYTHONPATH=.:generated $(BIN)/python -m benchmarks $(BENCH)

robustness: setup-dev ## the long loops of faults, with counts
	$(BIN)/python -m pytest tests/robustness --loops long

envoy-check: setup ## have Envoy validate the edge's configuration
	envoy/verify.sh

docs: setup-dev ## write docs/settings.md and .env.example from the settings
	@PYTHONPATH=.:generated $(BIN)/python -m mesh.settings_page

fmt: setup-dev ## format everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w --path protos/assistant

clean: ## remove what was built; keeps your data in .mesh
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/edge/web/node_modules
	find . -name __pycache__ -type d -not -path './.mesh/*' -prune -exec rm -rf {} +
