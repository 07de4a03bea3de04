# Two commands for a newcomer: `make demo` shows it, `make test` proves it.
# Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Test files run side by side in so many processes; 0 for one after the other in this one. By
# default half as many again as there are processors, for they wait a lot; 4 at most.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) * 3 // 2))')
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
# Stamps: a later run installs nothing unless these files changed.
EXAMPLES := $(VENV)/.installed-examples
DEV := $(VENV)/.installed-dev

# Some thousand processes are started by the tests: each would compile all our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test faults check format bench docs build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(EXAMPLES) ## Set everything up and run the digits example with live progress
	@$(BIN)/onready run examples/digits.py:digits $(ARGS)

test: $(DEV) ## Run all tests, then hold the coverage of branches: engine 99 %, the rest 90 %
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist loadfile $(ARGS)
	$(BIN)/coverage run -m pytest -q -n $(JOBS) examples/company-batch
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='*/engine/*' --fail-under=99
	$(BIN)/coverage report --omit='*/engine/*' --fail-under=90

faults: $(DEV) ## Run the fault suite at its full size: kills, races, damage, simulation (an hour)
	ONREADY_FAULTS=nightly $(BIN)/pytest tests/faults --timeout=3600 $(ARGS)

check: $(DEV) ## Check format, lint, types and import directions (seconds)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo --no-cache
	@# Side by side: each keeps one processor busy.
	$(BIN)/mypy & $(BIN)/basedpyright; found=$$?; wait $$! && exit $$found

format: $(DEV) ## Format the sources and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(DEV) ## Measure dispatch beside hand-written floors (ARGS="--help" for more)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV) ## Build the documentation into site/
	$(BIN)/zensical build --clean --strict

build: $(DEV) ## Build wheel and sdist into dist/
	@rm -rf build dist
	$(BIN)/python -m build --no-isolation

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist site htmlcov .coverage .coverage.* .onready \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("onready needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(EXAMPLES): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing onready and what the examples need"
	@$(PIP) -e '.[examples]'
	@touch $@

$(DEV): pyproject.toml constraints.txt examples/company-batch/pyproject.toml | $(BIN)/python
	@echo "installing onready and its development tools"
	@$(PIP) -e '.[dev]'
	@$(PIP) --no-deps -e examples/company-batch
	@touch $(EXAMPLES) $@
