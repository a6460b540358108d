# `make help` lists what there is. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
# infra/requirements.lock is for CI's machines; others take what the constraints allow
LOCKED := $(shell $(PYTHON) -c 'import sys, sysconfig; print(sys.version_info[:2] == (3, 11) and sysconfig.get_platform() == "linux-x86_64")')

# `make test ARGS="-p randomly -p xdist -n 4"`: more options for pytest
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses auto --dist worksteal $(ARGS)
# where `make wheel-demo` installs the wheel; CI makes its one environment from it
WHEEL_VENV ?= build/venv

.PHONY: help demo test test-all test-rest test-long check lint types lock audit-dependencies bench wheel wheel-demo smoke clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml infra/constraints.txt infra/requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet "$$(grep ^torch== infra/constraints.txt)"
ifeq ($(LOCKED),True)
	$(VENV)/bin/pip install --quiet --require-hashes --no-deps -r infra/requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps -e .
	$(VENV)/bin/pip check
else
	$(VENV)/bin/pip install --quiet -c infra/constraints.txt -e ".[dev]"
endif
	touch $@

demo: $(VENV)/.installed  ## Train a model with a planted shortcut, audit it, print the report and the SQL
	$(RUN) calig demo
	@echo 'calig:  is not on PATH yet: . $(VENV)/bin/activate, or run $(CURDIR)/$(VENV)/bin/calig'

test: $(VENV)/.installed  ## Run the first tier of the tests: every feature, eight minutes on two cores
	$(PYTEST)

test-all: $(VENV)/.installed  ## Run the first and the second tier: every family, kill, night and database
	$(PYTEST) --tier all

test-rest: $(VENV)/.installed  ## Run what test-all has beyond test
	$(PYTEST) --tier extended

test-long: $(VENV)/.installed  ## Hours: 220 kills, fuzzing, orders at random, mutants; commit what it writes
	$(RUN) tests.long

lint: $(VENV)/.installed  ## ruff and the import contracts
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(VENV)/bin/lint-imports

types: $(VENV)/.installed  ## mypy, strict
	$(RUN) mypy

lock: $(VENV)/.installed  ## Write infra/requirements.lock anew: versions and hashes of all but torch
	$(VENV)/bin/uv pip compile pyproject.toml --extra dev -c infra/constraints.txt --upgrade --generate-hashes \
		--no-emit-package torch --no-emit-package pip --no-header --no-annotate \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --quiet -o infra/requirements.lock

audit-dependencies: $(VENV)/.installed  ## Fail on a known vulnerability of what CI installs, if a service of advisories can be asked
	$(VENV)/bin/python infra/audit_dependencies.py

check: lint types test-all  ## What CI runs, but for the wheel

bench: $(VENV)/.installed  ## Benchmarks against peers, in one run
	$(RUN) tests.benchmarks.captum

wheel:  ## Build the wheel into dist/
	rm -rf dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

wheel-demo: wheel  ## Install the wheel alone in a fresh environment and run its demo from an empty folder
	rm -rf $(WHEEL_VENV) build/empty && mkdir -p build/empty
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/pip install --quiet "$$(grep ^torch== infra/constraints.txt)"
	$(WHEEL_VENV)/bin/pip install --quiet -c infra/constraints.txt dist/calig-*.whl
	cd build/empty && $(abspath $(WHEEL_VENV))/bin/calig demo
	rm -rf build/empty

smoke: $(VENV)/.installed  ## Run the demo with Prefect 3.9, then with the newest of everything; wheel-demo has Prefect 3.8
	infra/smoke.sh 'prefect==3.9.*'
	infra/smoke.sh newest

clean:  ## Remove the virtual environment and built files
	rm -rf $(VENV) dist build calig-demo calig-demo-images
