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
SOURCE := topology tables agents pipeline tests

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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(VENV)/.installed-dev ## Make .venv and install everything, the `aiops` command too
	@echo "Ready: $(VENV)/bin/aiops"

.PHONY: run
run: $(VENV)/.installed ## Run the loop on this machine, with servers of its own and a patient that breaks
	@exec $(VENV)/bin/aiops run --with-patient $(ARGS)

# In two processes, since half of the time is waiting; by file, since what a module's fixtures start is started once. What
# somebody asks for by ARGS runs in one: there -s and --pdb work, and a few tests need no second start.
PARALLEL ?= $(if $(ARGS),,--numprocesses 2 --dist loadfile)

.PHONY: test
test: $(VENV)/.installed-dev ## Run the tests, all but the long ones, chaos and benchmarks (ARGS="-k name", PARALLEL=)
	@echo "== tests"
	@$(PY) -m pytest -m "not long and not chaos and not benchmark" $(PARALLEL) $(ARGS)

.PHONY: test-long
test-long: $(VENV)/.installed-dev ## Run the tests that take minutes: a thousand simulated deployments, all faults, chaos in short
	@echo "== long tests"
	@$(PY) -m pytest -m "long and not chaos and not benchmark" $(ARGS)

# One after the other even with -j, or their output would mix; make -k check goes on after a failure, as CI does.
.PHONY: check
check: $(VENV)/.installed-dev ## All that CI runs, in CI's order: format, lint, types, import contracts, all tests
	@$(MAKE) -j1 format-check lint types contracts test test-long

.PHONY: format
format: $(VENV)/.installed-dev ## Format the code and sort its imports
	@$(PY) -m ruff format $(SOURCE)
	@$(PY) -m ruff check --fix $(SOURCE)

.PHONY: format-check
format-check: $(VENV)/.installed-dev ## Is the code formatted?
	@echo "== format"
	@$(PY) -m ruff format --check $(SOURCE)

.PHONY: lint
lint: $(VENV)/.installed-dev ## Lint
	@echo "== lint"
	@$(PY) -m ruff check $(SOURCE)

.PHONY: types
types: $(VENV)/.installed-dev ## Check the types, of the tests too
	@echo "== types"
	@$(PY) -m mypy $(SOURCE)

.PHONY: contracts
contracts: $(VENV)/.installed-dev ## Check who imports whom
	@echo "== import contracts"
	@$(VENV)/bin/lint-imports --no-logo

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure us and our peers in one run and write BENCHMARKS.md (ARGS=--quick, --no-peers)
	@$(PY) -m tests.benchmarks.compare $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.installed-dev ## Kill, stall and starve it, and check that nothing is lost
	@$(PY) -m tests.chaos $(ARGS)

.PHONY: evaluate
evaluate: $(VENV)/.installed-dev ## Score it on real recorded data (EVALUATE_DIR=folder of scripts)
	@deploy/evaluate "$(EVALUATE_DIR)" $(ARGS)

.PHONY: lock
lock: $(VENV)/.made-for ## Renew the requirements*.lock files (ARGS=--upgrade takes newer versions; needs the registry)
	@deploy/lock $(PY) $(ARGS)

.PHONY: clean
clean: ## Remove .venv and all that was generated in the checkout; what the program has learned stays
	@deploy/clean $(VENV)

# --- set-up -----------------------------------------------------------------------------------------------------------

$(VENV)/.made-for:
	@deploy/make-venv $(VENV)
	@printf '%s' "$(CURDIR)" > $@

# What it takes to run. Test tools come on top, so that the first `make run` need not wait for them.
$(VENV)/.installed: $(VENV)/.made-for requirements.lock pyproject.toml
	@deploy/install $(PY) requirements.lock
	@$(PY) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@deploy/install $(PY) requirements-dev.lock
	@touch $@

.PHONY: FORCE
FORCE:
