# `make run` needs Python 3.11+ with venv, and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
DIST := dist
# Most tests wait most of the time: four of them keep two cores busy.
TEST_PROCESSES ?= 4
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-input --disable-pip-version-check
.DEFAULT_GOAL := run
.DELETE_ON_ERROR:
.PHONY: run demo test test-all setup check package wheel tarball bundle bench faults hosts bars screenshots clean

# A recipe is one command that make runs without a shell between: make passes a SIGTERM on to its own
# child and no further.
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
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -m 'not long'

# With those that take long, and every combination of what others try some of: what CI runs.
test-all: check
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

# What others install, in dist/.
package: wheel tarball

# Of headway/, with the source distribution that it is built from.
wheel: .venv/ready-for-tests
	@$(BIN)/python -m build --no-isolation --outdir $(DIST)

# The npm package of web/. Needs npm.
tarball:
	@mkdir -p $(DIST)
	@npm pack --silent --pack-destination $(DIST) ./web

# web/job-progress.min.js anew, after a change of what it is made from. Needs node and npm.
bundle:
	@cd tests/web && npm ci --ignore-scripts --no-audit --no-fund --silent && node bundle.js ../../web/job-progress.min.js

bench: .venv/ready-for-tests
	@$(BIN)/python -m tests.bench

# For a shorter or another run: .venv/bin/python -m tests.faults --help
faults: .venv/ready-for-tests
	@$(BIN)/python -m tests.faults
	@$(BIN)/python -m tests.faults.shop

# The same over several hosts. Linux; root, or a kernel that lets anybody have namespaces.
hosts: .venv/ready-for-tests
	@$(BIN)/python -m tests.hosts --store cluster
	@$(BIN)/python -m tests.hosts --store sentinel
	@$(BIN)/python -m tests.hosts --store address

bars: .venv/ready-for-tests
	@$(BIN)/python -m tests.faults.bars

# The pictures of docs/dashboard.md, anew. They are to be looked at before they are committed.
screenshots: .venv/ready-for-tests
	@$(BIN)/python -m tests.e2e.screenshots docs/screenshots

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

# The stamps come last: a set-up that was interrupted is started anew, since what pip left half-written
# looks installed to the next pip.
.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("headway: needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	@echo Setting up .venv, once and whenever requirements.txt changes. This takes a minute.
	@$(PYTHON) -m venv --clear .venv
	@$(PIP_INSTALL) -r requirements.txt
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/.venv/bin/python" -P -m headway "$$@"\n' "$(CURDIR)" "$(CURDIR)" > $(BIN)/headway
	@chmod +x $(BIN)/headway
	@touch $@

.venv/ready-for-tests: tests/requirements.txt .venv/ready
	@echo Adding what the checks and tests need to .venv.
	@mv .venv/ready .venv/ready-before
	@$(PIP_INSTALL) -r tests/requirements.txt
	@mv .venv/ready-before .venv/ready
	@touch $@
