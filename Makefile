# `make demo` and `make test` are all the set-up there is; both go through the target .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: .venv demo test lint clean

$(STAMP): pyproject.toml requirements.lock
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	touch $@

.venv: $(STAMP)

demo: .venv
	$(BIN)/streamkit demo

test: .venv
	$(PYTEST) -n 2 -m "not slow" tests

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
