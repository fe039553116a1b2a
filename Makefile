# One door for everything a person or CI does in this checkout. `make` lists the targets.
# Each target does the set-up it needs, and none needs a network once `make setup` has run.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Names are relative everywhere: a checkout may lie under a path with spaces.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
PACKAGES := topology tables agents pipeline
TARGETS_OF_LINT := $(PACKAGES) tests

# The resolver refuses the two distributions that own an import name of ours (DECISIONS.md, decision 1).
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# More arguments for the target's own command: make test ARGS="-k windows -x"
ARGS ?=
# Where `make evaluate` finds its scripts and data.
EVALUATE_DIR ?= $(firstword $(wildcard ../shared/evaluate))

# A virtual environment holds the absolute path it was made for; in a checkout that was moved it is made anew.
ifneq ($(shell cat $(VENV)/.made-for 2>/dev/null),$(CURDIR))
$(VENV)/.made-for: FORCE
endif

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(VENV)/.installed-dev ## Make .venv and install everything, the `aiops` command too
	@echo "Ready: $(VENV)/bin/aiops"

.PHONY: run
run: $(VENV)/.installed ## Run the loop on this machine, with servers of its own and a patient that breaks
	@exec $(VENV)/bin/aiops run --with-patient $(ARGS)

.PHONY: test
test: $(VENV)/.installed-dev ## Run the tests, all but chaos and benchmarks (ARGS="-k name")
	@$(PY) -m pytest -m "not chaos and not benchmark" $(ARGS)

.PHONY: check
check: format-check lint types contracts ## All that CI runs, in CI's order: format, lint, types, import contracts, tests
	@$(MAKE) test

.PHONY: format
format: $(VENV)/.installed-dev ## Format the code and sort its imports
	@$(PY) -m ruff format $(TARGETS_OF_LINT)
	@$(PY) -m ruff check --fix $(TARGETS_OF_LINT)

.PHONY: format-check
format-check: $(VENV)/.installed-dev ## Is the code formatted?
	@echo "== format"
	@$(PY) -m ruff format --check $(TARGETS_OF_LINT)

# Each waits for the one before: with -j their output would mix, and the tests would start on code that does not lint.
.PHONY: lint
lint: format-check ## Lint
	@echo "== lint"
	@$(PY) -m ruff check $(TARGETS_OF_LINT)

.PHONY: types
types: lint ## Check the types, of the tests too
	@echo "== types"
	@$(PY) -m mypy $(TARGETS_OF_LINT)

.PHONY: contracts
contracts: types ## Check who imports whom
	@echo "== import contracts"
	@$(VENV)/bin/lint-imports

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure: events per second, latency, memory
	@$(PY) -m pytest -m benchmark tests/benchmarks $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.installed-dev ## Kill, stall and starve it, and check that nothing is lost
	@$(PY) -m pytest -m chaos tests/chaos $(ARGS)

.PHONY: evaluate
evaluate: $(VENV)/.installed-dev ## Score it on real recorded data (EVALUATE_DIR=folder of scripts)
	@deploy/evaluate "$(EVALUATE_DIR)" $(ARGS)

.PHONY: lock
lock: $(VENV)/.made-for ## Renew the requirements*.lock files (ARGS=--upgrade takes newer versions; needs the registry)
	@deploy/lock $(PY) $(ARGS)

.PHONY: clean
clean: ## Stop the servers started from here; remove .venv and all that was generated in the checkout
	@deploy/clean $(VENV)

# --- set-up -----------------------------------------------------------------------------------------------------------

$(VENV)/.made-for:
	@deploy/make-venv $(VENV)
	@printf '%s' "$(CURDIR)" > $@

# What it takes to run. Test tools come on top, so that the first `make run` need not wait for them.
$(VENV)/.installed: $(VENV)/.made-for requirements.lock pyproject.toml
	@deploy/install $(PY) requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@deploy/install $(PY) requirements-dev.lock
	@touch $@

.PHONY: FORCE
FORCE:
