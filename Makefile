# make train: set up what is missing, then train the demo in QEMU.   make test: likewise, then test.
# A second run installs nothing. ARGS="--board host" goes to `ondevice train`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-installed
TEST_STAMP := $(VENV)/.test-installed
C_SOURCES := $(shell find runtime firmware tests/c -name '*.[ch]' 2>/dev/null)
PACKAGES := gcc libc6-dev gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm python3-venv
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help train test lint format results lock clean tools

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

train: $(RUN_STAMP)  ## set up, then adapt the demo model to an unseen wearer, in QEMU
	$(BIN)/ondevice train $(ARGS)

test: $(TEST_STAMP) lint  ## set up, then lint and run all tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(TEST_STAMP)  ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)

format: $(TEST_STAMP)  ## format Python and C
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES)

results: $(RUN_STAMP)  ## measure every scheme on the host board, write docs/results.md
	$(BIN)/python benchmarks/results.py

lock: $(TEST_STAMP)  ## write the lock files from what is installed
	$(BIN)/python tools/lock_requirements.py

clean:  ## remove what builds and runs left
	rm -rf build .pio runs dist

# Compilers and QEMU: installed only if a command is missing.
tools:
	@if ! command -v gcc >/dev/null || ! command -v arm-none-eabi-gcc >/dev/null \
	    || ! command -v qemu-system-arm >/dev/null || ! [ -e /usr/include/stdio.h ] \
	    || ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || ! [ -d /usr/lib/arm-none-eabi/newlib ]; then \
	    if [ "$$(id -u)" = 0 ]; then SUDO=; \
	    elif command -v sudo >/dev/null; then SUDO=sudo; \
	    else echo "missing tools: as root, run apt-get install $(PACKAGES)" >&2; exit 1; fi; \
	    if ! command -v apt-get >/dev/null; then \
	        echo "missing tools: install what Debian calls $(PACKAGES)" >&2; exit 1; fi; \
	    echo "Installing $(PACKAGES)"; \
	    $$SUDO apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends \
	        $(PACKAGES) >/dev/null; \
	fi

$(BIN)/python: | tools
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | tools $(BIN)/python
	@echo "Installing Python packages of requirements.lock"
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(TEST_STAMP): requirements-test.lock $(RUN_STAMP) | tools
	@echo "Installing Python packages of requirements-test.lock"
	$(PIP) install -r requirements-test.lock
	touch $@
