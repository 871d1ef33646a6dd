# The README's commands. Everything happens inside .venv; only Python 3.11+ and git are needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test lint figures clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "innerloop needs Python 3.11 or newer; name it with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

train: setup
	$(BIN)/innerloop train

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Measures again every figure of the README (about an hour on two cores).
figures: setup
	$(BIN)/python -m benchmarks.figures

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache
