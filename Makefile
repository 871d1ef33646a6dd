# The README's commands. Everything happens inside .venv; only Python 3.11+ and git are needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test coverage test-long test-all lint pages docs site figures bench trials dist release audit licences clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml setup.py $(wildcard src/innerloop/ops/cpu/*.c src/innerloop/ops/cpu/*.h src/innerloop/ops/cpu/*.inc)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "innerloop needs Python 3.11 or newer; name it with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

train: setup
	$(BIN)/innerloop train

# One thread in each of as many processes as there are processors.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist worksteal

# All but what takes minutes: about ten minutes on two quiet cores.  With LONG=1 these, too.
test: setup
	$(PYTEST) $(SIDE_BY_SIDE) $(if $(LONG),,-m "not long")

# The same with its coverage, which must not sink; it takes twice as long.
coverage: setup
	$(PYTEST) $(SIDE_BY_SIDE) -m "not long" --cov --cov-report=term \
	  --cov-report=json:build/coverage.json
	$(BIN)/python -m tools.covered build/coverage.json

# Kills, pages, a browser, other compilers.
test-long: setup
	$(PYTEST) $(SIDE_BY_SIDE) -m long

# In one run tests are collected once, and no process waits for the end of another in between.
test-all:
	$(MAKE) test LONG=1

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tutorial's pages run anew, with output and pictures, and as notebooks.
pages: setup
	$(BIN)/python -m tools.pages
	$(BIN)/python -m tools.notebooks

# The documentation as a site in both languages, in build/site.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The drawing page as files that need no server, in build/page.
site: setup
	$(BIN)/innerloop demo --site build/page

# Measures again every figure of the README (about an hour on two cores).
figures: setup
	$(BIN)/python -m benchmarks.figures

# Measures the speed beside other libraries (about half an hour on two cores).
bench: setup
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.speed own
	$(BIN)/python -m benchmarks.threads
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.adapters
	$(BIN)/python -m benchmarks.exporting
	$(BIN)/python -m benchmarks.own_examples
	$(BIN)/python -m benchmarks.time_to_accuracy
	$(BIN)/python -m tools.tables

# Kills runs, feeds damaged files, trains for an hour (about three hours on two cores).
trials: setup
	$(BIN)/python -m trials.kills
	$(BIN)/python -m trials.fuzz
	$(BIN)/python -m trials.determinism
	$(BIN)/python -m trials.long_run
	$(BIN)/python -m tools.tables

# What is published, in dist/: see tools/wheels.py.
dist: setup
	$(BIN)/python -m tools.wheels

# Version, date, checks, files, commit and tag: make release VERSION=0.2.0 [DRY=--dry-run]
release: setup
	$(BIN)/python -m tools.release $(VERSION) $(DRY)

# Known weaknesses of the pinned packages; needs a connection to the Python package index.
audit:
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock

licences: setup
	$(BIN)/python -m tools.licences

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache
