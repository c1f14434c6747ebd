# What a developer types. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

export PERFCI_STATE_DIR ?= $(CURDIR)/state
# Nothing of ours goes into the user's own caches.
export UV_CACHE_DIR := $(PERFCI_STATE_DIR)/cache/uv
export PIP_CACHE_DIR := $(PERFCI_STATE_DIR)/cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without bytecode each start of perfci, Ansible and Rally compiles all that it imports: most of the time of a short command.
unexport PYTHONDONTWRITEBYTECODE
# What nearly every command imports is compiled by the set-up, for those who forbid Python to do it later.
COMPILED := alembic pydantic pydantic_settings rich sqlalchemy typer yaml
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PYTHON ?= python3
UV := $(shell sed -n 's/^uv==/uv==/p' constraints.txt)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
READY := .venv/.ready
CONTAINER ?= $(shell command -v podman || command -v docker)
DEBIAN ?= docker.io/library/debian:12
IN_CONTAINER := apt-get update -q; apt-get install -y -q --no-install-recommends ca-certificates git make python3; \
	mkdir /perfci; tar -C /src --exclude=./.venv --exclude=./state -c . | tar -C /perfci -x; cd /perfci; \
	export PERFCI_STATE_DIR=/perfci/state; make test
# Each process takes whole files, as a file's tests share what they start, in the order of tests/conftest.py: the longest first.
# Tests with services wait for half of their time: two cores are busy with three processes, if each may run a cloud in memory.
MEMINFO := /proc/meminfo
WORKERS ?= $(shell awk '/^MemAvailable/ {print ($$2 < 14 * 1024 * 1024) ? 2 : 3}' $(MEMINFO))
TESTS := PERFCI_TESTS_COMPLETE=1 python -m pytest -m "not virtual and not devstack"
SHARED_OUT := --dist loadfile --no-loadscope-reorder

.PHONY: help setup nightly demo demo-bisect test-setup test suite test-virtual test-container test-fast lint doctor status clean

help:  ## List what you can make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(READY)  ## Make the virtual environment from exact pins

$(READY): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11, which perfci needs: use PYTHON=/path/to/a/newer/one"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv; }
	@[ -x .venv/bin/uv ] || { rm -rf .venv && $(PYTHON) -m venv .venv && .venv/bin/python -m pip install -q "$(UV)"; }
	@.venv/bin/uv pip sync -q --python .venv/bin/python constraints.txt
	@.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --editable .
	@.venv/bin/python -m compileall -q -j 0 perfci $(addprefix .venv/lib/python3*/site-packages/,$(COMPILED))
	@touch $@

nightly: setup  ## Set up this machine and run one night of jobs/nightly.yml on it
	@perfci run nightly

demo: setup  ## Put a slow-down into neutron, and see perfci find it and close the alert
	@perfci demo

demo-bisect: setup  ## Plant a slow change among ten in two repositories, and see a bisect name and prove it
	@perfci demo --bisect

test-setup: setup  ## Also set up what the tests need
	@perfci setup --tests

test: test-setup  ## Set up, lint, and run all tests that this machine can run
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory suite

# Clouds that share two cores get in each other's way. Both runs are shown.
suite:
	@$(TESTS) --numprocesses $(WORKERS) $(SHARED_OUT) || { [ $$? = 1 ] || exit 1; \
		echo "Some tests failed while others ran. They run again, alone; a test that fails twice fails."; \
		$(TESTS) --last-failed --last-failed-no-failures none; }

test-virtual: test-setup  ## Run whole nights on simulated machines; as root
	@PERFCI_TESTS_COMPLETE=1 python -m pytest -m virtual

# The container works on a copy: what it makes belongs to root, and may be made for another distribution.
test-container:  ## Run all tests as root in a fresh Debian, with podman or docker
	@[ -n "$(CONTAINER)" ] || { echo "podman or docker is missing: apt-get install podman, or use CONTAINER=/path/to/one"; exit 2; }
	@$(CONTAINER) run --rm --privileged --volume "$(CURDIR):/src:ro" $(DEBIAN) sh -ec '$(IN_CONTAINER)'

test-fast: setup  ## Run the tests that start no services
	@python -m pytest -m "not slow and not virtual" -q --numprocesses 2 $(SHARED_OUT)

lint: setup  ## Check format, lint, types, imports and roles
	@ruff format --check --quiet .
	@ruff check --quiet .
	@mypy --no-error-summary
	@lint-imports --no-logo >/dev/null || lint-imports --no-logo
	@ansible-lint --offline --profile production -q

doctor: setup  ## Say what this machine lacks
	@perfci doctor

status: setup  ## Show what runs, who holds nodes, what waits
	@perfci status

clean:  ## Stop everything of this checkout, remove what can be made again; PURGE=1: also the archive
	@if [ -x .venv/bin/perfci ]; then .venv/bin/perfci clean --yes $(if $(filter 1,$(PURGE)),--purge); fi
	@rm -rf .venv $(if $(filter 1,$(PURGE)),"$(PERFCI_STATE_DIR)")
