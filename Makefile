# make train: set up what is missing, then train the demo in QEMU.   make test: likewise, then test.
# A second run installs nothing. ARGS="--board host" goes to `ondevice train`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
, := ,
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-installed
TEST_STAMP := $(VENV)/.test-installed
C_SOURCES := $(shell find runtime firmware benchmarks tests/c tests/fuzz tools -name '*.[ch]' 2>/dev/null)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Those that run runtime/ on this computer; the others would add only time to its coverage.
KERNEL_TESTS := tests/test_integer_kernels.py
C_TESTS := $(wildcard tests/test_runtime_*.py tests/test_protocol_*.py) \
    $(addprefix tests/test_,$(addsuffix .py,schedule authentication blake2s device_checkpoints image start_count \
        round_codecs private_updates audio_features)) \
    $(addprefix $(KERNEL_TESTS)::test_, weight_updates_equal_the_reference \
    convolutions_equal_the_reference elementwise_operators_and_their_gradients_equal_the_reference)

.PHONY: help train test coverage power-cuts soak fleet fuzz analyse lint format results ladder transfer privacy federated networks kernels kernels-check boards boards-check docs tune search lock clean tools test-tools fuzz-tools

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

train: $(RUN_STAMP)  ## set up, then adapt the demo model to an unseen wearer, in QEMU
	$(BIN)/ondevice train $(ARGS)

test: $(TEST_STAMP) lint build/chips/fetched  ## set up, then lint and run all tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

coverage: $(TEST_STAMP)  ## lines of runtime/ that tests run, at least 90 %; pages in build/coverage
	rm -rf build/coverage
	mkdir -p build/coverage/objects
	ONDEVICE_COVERAGE=$(CURDIR)/build/coverage/objects $(BIN)/python -m pytest -n 2 $(C_TESTS)
	$(BIN)/gcovr build/coverage/objects

power-cuts: $(TEST_STAMP)  ## kill a board 500 times while it saves checkpoints, write docs/reliability.md
	$(BIN)/python benchmarks/power_cuts.py $(ARGS)

soak: $(TEST_STAMP)  ## train over a line that spoils 1 % of a million frames; ARGS="--break-every 10000"
	$(BIN)/python benchmarks/soak.py $(ARGS)

fleet: $(TEST_STAMP)  ## eight simulated boards at once from one host process
	$(BIN)/python benchmarks/fleet.py $(ARGS)

federated: $(TEST_STAMP)  ## federate the demo's wearers (half an hour), write docs/federated-results.md
	$(BIN)/python benchmarks/federated.py $(ARGS)

fuzz: $(TEST_STAMP) | fuzz-tools  ## fuzz the link, checkpoints and the host's parsers; ARGS=--short: as CI does
	$(BIN)/python benchmarks/fuzz.py $(ARGS)

stack: $(TEST_STAMP)  ## the worst-case stack of the demo on every board, and what a run uses
	$(BIN)/python benchmarks/stack.py $(ARGS)

analyse: $(TEST_STAMP)  ## clang-tidy and cppcheck over runtime/, firmware/ and the demo's C
	$(BIN)/python tools/analyse_c.py

docs: $(TEST_STAMP)  ## build the documentation's pages in build/docs; fails at any warning
	$(BIN)/python -m sphinx -W --keep-going -q -b dirhtml docs build/docs

test-renode: $(TEST_STAMP)  ## run the Robot suites of firmware/renode in Renode; skipped where it is missing
	@if command -v renode >/dev/null && command -v renode-test >/dev/null; then \
	    renode-test --variable ONDEVICE:$(abspath $(BIN)/ondevice) --variable "BUILD DIR:$(abspath build)" \
	        $(abspath firmware/renode/uart.robot) $(abspath firmware/renode/training.robot) $(ARGS); \
	else \
	    echo "SKIPPED: renode and renode-test are not on PATH; nothing was run (docs/hardware.md)"; \
	fi

lint: $(TEST_STAMP) analyse  ## ruff, mypy, clang-format, clang-tidy, cppcheck
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

search: $(RUN_STAMP)  ## find the demo's best update scheme in 9 KB, see docs/search.md
	$(BIN)/ondevice search --ram 9K --epochs 10 $(ARGS)

# What others say of the chips: 40 MB of packages, of which a few files are kept.
CHIP_SVDS := STM32F446x STM32F411xx STM32L4x6
CHIP_DEVICES := f4-01_11 f4-46 f7-67_68_77_78 g0-71_81 h7-42_43_50_53 l4-76_86 u5-75_85
build/chips/fetched: | $(TEST_STAMP)
	@rm -rf build/chips && mkdir -p build/chips/packages
	$(PIP) download --no-deps --dest build/chips/packages \
	    cmsis-svd==0.4 modm-devices==0.13.1
	tar -xzf build/chips/packages/cmsis-svd-0.4.tar.gz -C build/chips --strip-components=4 \
	    $(CHIP_SVDS:%=cmsis-svd-0.4/cmsis_svd/data/STMicro/%.svd)
	$(BIN)/python -m zipfile -e build/chips/packages/modm_devices-0.13.1-*.whl build/chips/packages
	cp $(CHIP_DEVICES:%=build/chips/packages/modm_devices/resources/devices/stm32/stm32%.xml) build/chips
	rm -rf build/chips/packages
	touch $@

build/vowels.npz: | $(TEST_STAMP)
	@mkdir -p build/aeon
	$(PIP) download --no-deps --dest build/aeon aeon==1.6.0
	$(BIN)/python -m zipfile -e build/aeon/aeon-*.whl build/aeon
	$(BIN)/python benchmarks/vowels.py build/aeon/aeon/datasets/data/JapaneseVowels $@

transfer: build/vowels.npz  ## a keyword spotter learns speakers by every scheme (an hour), write docs/transfer.md
	$(BIN)/python benchmarks/transfer.py $< $(ARGS)

privacy: $(TEST_STAMP)  ## attack what devices send (15 minutes), write the figures of docs/privacy.md
	$(BIN)/python benchmarks/privacy.py $(ARGS)

networks: $(TEST_STAMP)  ## train the networks of ../shared/data in QEMU, write docs/networks.md
	$(BIN)/python benchmarks/networks.py $(ARGS)

kernels: $(TEST_STAMP)  ## count every kernel's instructions in QEMU, write docs/kernels.md
	$(BIN)/python benchmarks/kernels.py $(ARGS)

kernels-check: $(TEST_STAMP)  ## fail where a kernel's count is over 2 % above the recorded one
	$(BIN)/python benchmarks/kernels.py --check --no-naive --no-steps $(ARGS)

boards: $(TEST_STAMP)  ## build the demo's firmware for every real board, write the table of docs/boards.md
	$(BIN)/python benchmarks/boards.py $(ARGS)

boards-check: $(TEST_STAMP)  ## fail where the demo's firmware does not build for a real board, or does not fit
	$(BIN)/python benchmarks/boards.py --check $(ARGS)

tune: $(TEST_STAMP)  ## measure the best register tiles into the database that is shipped
	$(BIN)/python benchmarks/tune.py $(ARGS)

ladder: $(TEST_STAMP)  ## plan the RAM of real networks, rung by rung, write docs/memory.md
	$(BIN)/python benchmarks/memory_ladder.py

lock: $(TEST_STAMP)  ## write the lock files from what is installed
	$(BIN)/python tools/lock_requirements.py

clean:  ## remove what builds left; runs/ and the environment stay
	rm -rf build .pio dist

# Only what does not work here is installed: `need PACKAGE COMMAND...` is true where it works.
define install_missing
	@missing=; \
	need() { package=$$1; shift; "$$@" >/dev/null 2>&1 || missing="$$missing $$package"; }; \
	has_headers() { echo '#include <stdio.h>' | "$$1" -E -x c -; }; \
	fuzzes() { echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	    clang -fsanitize=fuzzer,address -x c - -o /dev/null; }; \
	$(1) \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	if ! command -v apt-get >/dev/null || ! command -v $${sudo:-true} >/dev/null; then \
	    echo "Missing tools; install these (Debian's names), then run make again:$$missing" >&2; \
	    exit 1; \
	fi; \
	echo "Installing$$missing"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends $$missing >/dev/null
endef

# Compilers and QEMU.
tools:
	$(call install_missing, \
	    need gcc command -v gcc; \
	    need libc6-dev has_headers gcc; \
	    need gcc-arm-none-eabi command -v arm-none-eabi-gcc; \
	    need libnewlib-arm-none-eabi has_headers arm-none-eabi-gcc; \
	    need qemu-system-arm command -v qemu-system-arm; \
	    need python3-venv $(PYTHON) -c 'import ensurepip$(,) venv';)

# A browser that opens reports, and what microphones are read with.
test-tools:
	$(call install_missing, \
	    need chromium command -v chromium; \
	    need chromium-driver command -v chromedriver; \
	    need libportaudio2 $(PYTHON) -c 'import ctypes.util$(,) sys; sys.exit(not ctypes.util.find_library("portaudio"))';)

# clang and its libFuzzer, for `make fuzz` alone.
fuzz-tools:
	$(call install_missing, \
	    need clang command -v clang; \
	    need libclang-rt-14-dev fuzzes;)

$(BIN)/python: | tools
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=..." \
	    if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | tools $(BIN)/python
	@echo "Installing Python packages of requirements.lock"
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(TEST_STAMP): requirements-test.lock $(RUN_STAMP) | tools test-tools
	@echo "Installing Python packages of requirements-test.lock"
	$(PIP) install -r requirements-test.lock
	touch $@
