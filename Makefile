# `make help` lists what there is. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
# infra/requirements.lock is for CI's machines; others take what the constraints allow
LOCKED := $(shell $(PYTHON) -c 'import sys, sysconfig; print(sys.version_info[:2] == (3, 11) and sysconfig.get_platform() == "linux-x86_64")')

.PHONY: help demo test check lint types lock audit-dependencies bench crash wheel wheel-demo clean

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

test: $(VENV)/.installed  ## Run the tests, a file per core at a time
	OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses auto --dist loadfile

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

check: lint types test  ## All of what CI runs

bench: $(VENV)/.installed  ## Benchmarks against peers, in one run
	$(RUN) tests.benchmarks.captum

crash: $(VENV)/.installed  ## Kill 220 audits and workers at every stage and at random, and look at what is left
	$(RUN) tests.crash

wheel: $(VENV)/.installed  ## Build the wheel into dist/
	rm -rf dist
	$(RUN) build --wheel --installer pip

wheel-demo: wheel  ## Install the wheel alone in a fresh environment and run its demo from an empty folder
	rm -rf build && mkdir -p build/empty
	$(PYTHON) -m venv build/venv
	build/venv/bin/pip install --quiet "$$(grep ^torch== infra/constraints.txt)"
	build/venv/bin/pip install --quiet -c infra/constraints.txt dist/calig-*.whl
	cd build/empty && ../venv/bin/calig demo
	rm -rf build

clean:  ## Remove the virtual environment and built files
	rm -rf $(VENV) dist build calig-demo calig-demo-images
