# Everything here needs Python 3.11+, make and a package index; nothing else.
# uv is used when it is on PATH (NO_UV=1 turns that off).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(if $(NO_UV),,$(shell command -v uv 2>/dev/null))
# Two worker processes; `make test PYTEST_ARGS="-n 0 -x tests/kernel"` for a closer look.
PYTEST_ARGS ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help install demo test torture lint check bench bench-quick format lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv and install everything into it (the other targets do it by themselves)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "durable-core needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
ifeq ($(UV),)
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	    || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
else
	test -x $(BIN)/python || $(UV) venv -q --seed --python $(PYTHON) $(VENV)
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: $(STAMP) ## run real orders through a workflow while its worker is killed
	$(BIN)/durable demo

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# `make torture TORTURE_ARGS="--schedules 100000 --seed 7"` for more, and for others.
torture: $(STAMP) ## tens of thousands of simulated schedules, and what they add up to
	$(BIN)/python -m tests.torture $(TORTURE_ARGS)

lint: $(STAMP) ## ruff, mypy and import-linter, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

check: lint test ## lint, then the tests exactly as `make test`; what CI runs

# `make bench BENCH="peers journal"` for some of them.
bench: $(VENV)/.bench ## run the benchmarks; writes benchmarks/RESULTS.md and its charts
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: $(STAMP) ## processor time a step of kernel and engine, against the floor
	$(BIN)/python -m benchmarks.quick

# The peers to compare with, and what draws charts.
$(VENV)/.bench: $(STAMP)
ifeq ($(UV),)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[bench]'
else
	$(UV) pip install -q --python $(BIN)/python --no-build-isolation -e '.[bench]'
endif
	@touch $@

format: $(STAMP) ## sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## make requirements/dev.txt anew from requirements/dev.in (needs uv)
	cd requirements && { \
	    echo "# Made by \`make lock\` from dev.in: exact versions and their hashes, for every platform."; \
	    uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	        --no-header --no-emit-index-url dev.in; } > dev.txt.new && mv dev.txt.new dev.txt

clean: ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
