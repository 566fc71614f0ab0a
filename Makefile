# The two commands a newcomer needs are `make mount` and `make test`; each does its own set-up. `make help` lists the rest.

PYTHON ?= $(shell test -x /usr/bin/python3 && /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& echo /usr/bin/python3 || echo python3)
MNT ?= ./Buckets
# How many test processes; mount tests of one file share a process (and a mount).
JOBS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Tests that need no mount and no second process, and are quick.
PURE_TESTS := tests/test_house.py tests/dag tests/keys tests/config tests/wire tests/disk tests/journal
PURE_ARGS := --ignore tests/dag/test_properties.py --ignore tests/dag/test_vectors_files.py
# What `make cov` measures: tests that run bucketfs in their own process.
COV_TESTS := $(PURE_TESTS) tests/api tests/cache tests/cli tests/client tests/daemon tests/hub tests/mirror tests/model \
	tests/sync tests/transfer tests/vfs

BIN := .venv/bin
RUN_READY := .venv/.ready-run
TEST_READY := .venv/.ready-test
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-test packages packages-test mount umount check fast cov test test-all bench latency proto docs format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(RUN_READY) ## system packages, .venv and the package: all that a mount needs

setup-test: $(TEST_READY) ## that, and all that the tests need

packages:
	@.ci/packages run $(PYTHON)

packages-test:
	@.ci/packages test $(PYTHON)

# Order-only: the check for packages runs every time (it is quick), but makes nothing out of date.
.venv/bin/python: | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bucketfs needs Python 3.11 or newer; try make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv

$(RUN_READY): pyproject.toml | packages .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(TEST_READY): pyproject.toml tests/clients/js/package-lock.json | packages-test .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@.ci/javascript
	@touch $(RUN_READY) $@

mount: $(RUN_READY) ## mount your buckets on ./Buckets, or MNT=folder
	@.ci/mount $(BIN)/bucketfs '$(MNT)'

umount: $(RUN_READY) ## unmount them again
	@$(BIN)/bucketfs umount '$(MNT)'

check: $(TEST_READY) ## ruff, mypy, and vulture for what nothing uses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m vulture

fast: check ## checks and the tests that only think: what to run after every change
	$(BIN)/python -m pytest -q -n $(JOBS) $(PURE_ARGS) $(PURE_TESTS) $(PYTEST_ARGS)

cov: $(TEST_READY) ## how much of the code the quick tests reach; fails below the floor in pyproject.toml
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(PURE_ARGS) --cov --cov-report=term $(COV_TESTS) $(PYTEST_ARGS)

test: check ## checks and all tests; of the longest ones a cut
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

test-all: check ## the same, with the longest ones whole
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --whole $(PYTEST_ARGS)

bench: $(TEST_READY) ## measure, and write the table of docs/benchmarks.md
	$(BIN)/python tests/bench/run.py --write docs/benchmarks.md $(BENCH_ARGS)

latency: $(TEST_READY) ## measure how soon a change in one mount is read in another
	$(BIN)/python tests/bench/latency.py --write docs/benchmarks.md $(BENCH_ARGS)

proto: $(TEST_READY) ## compile bucketfs/wire/*.proto anew
	$(BIN)/python tests/support/protos.py

docs: $(TEST_READY) ## write docs/api.md from the docstrings
	$(BIN)/python tests/support/api_page.py

format: $(TEST_READY) ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what make and Python left behind (never your buckets)
	rm -rf .venv tests/clients/js/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find bucketfs tests -name __pycache__ -prune -exec rm -rf {} +
