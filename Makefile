# `make run` needs Python 3.11+ and make, nothing else: everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := run
.PHONY: run demo test setup check bench clean

# Recipes are single commands without a shell, so that a signal to make reaches the program itself.
run: .venv/ready
	@$(BIN)/python -m service run

demo: .venv/ready
	@$(BIN)/python -m service demo

setup: .venv/ready-for-tests

check: .venv/ready-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest

bench: .venv/ready-for-tests
	$(BIN)/python -m tests.bench

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/ready-for-tests: tests/requirements.txt .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@
