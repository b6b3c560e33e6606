# Watchbill. `make run` does the main job, `make test` proves it. Both install what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?= checks.example.yaml
RUN_ARGS ?=
BENCH ?=
PROVE ?=
# Two processes, since half of the tests' time is waiting; a file's tests stay together, and in their order.
TESTS ?= -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run test check format generate bench prove dist clean test-deps

help:
	@echo "make run      install and run the exporter with $(CONFIG); see http://127.0.0.1:9876"
	@echo "make test     install what tests need, run checks and all tests (TESTS='tests/net': a part of them, in one process)"
	@echo "make check    ruff, mypy, import-linter, generated files current"
	@echo "make generate write the generated files anew (JSON Schema, dashboards, tables in docs)"
	@echo "make bench    measure the probe path beside blackbox_exporter (BENCH='ratios --runs 1': a part of it)"
	@echo "make prove    attack what Watchbill promises, for hours; it goes on where it was interrupted (PROVE='storm faults': a part of it)"
	@echo "make dist     build the wheel and the sdist"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Watchbill needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || bin="$(PYTHON)" sh scripts/install-venv.sh
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

run: $(VENV)/installed
	$(BIN)/watchbill run $(CONFIG) $(RUN_ARGS)

test: $(VENV)/installed-test test-deps check
	$(BIN)/python -m pytest $(TESTS)

test-deps:
	@sh scripts/install-test-programs.sh

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate.py --check

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/installed-test
	$(BIN)/python scripts/generate.py

bench: $(VENV)/installed-test test-deps
	@sh scripts/install-bench-peer.sh
	$(BIN)/python -m bench $(BENCH)

prove: $(VENV)/installed-test test-deps
	$(BIN)/python -m tests.prove $(PROVE)

dist: $(VENV)/installed-test
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
