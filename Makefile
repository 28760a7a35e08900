# make demo | test | test-long | mutants | chaos | soak | check | bench | screenshots | lock | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each worker of the tests has servers of its own, and waits for them a part of its time: one more than there are cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

# Each start of the service and each worker of the tests would compile all of the code anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-long mutants chaos soak check bench screenshots lock clean

demo: $(VENV)/.ready
	$(BIN)/python -m service demo

test: $(VENV)/.ready check
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10

test-long: $(VENV)/.ready
	LONG=1 $(BIN)/python -m pytest tests -m long --timeout 1800 -n auto --maxprocesses 4 --dist worksteal

# Takes each guard of tests/guards.toml out, and runs the test that notices; for some of them: GUARDS='fence mark_dots'.
mutants: $(VENV)/.ready
	$(BIN)/python -m tests.guards $(GUARDS)

# Every fault of tests/chaos on real processes, and the table of docs/reliability.md; then each guard of
# tests/chaos/guards.toml is taken out, and a scenario must notice.
chaos: $(VENV)/.ready
	$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),5)
	$(BIN)/python -m tests.chaos.guards

# Fast slots for an hour, or for so many MINUTES: nothing may grow.
soak: $(VENV)/.ready
	$(BIN)/python -m tests.chaos.soak $(MINUTES)

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.mail_cost
	$(BIN)/python -m benchmarks.smtp_pool
	$(BIN)/python -m benchmarks.reminder_run --no-peers
	$(BIN)/python -m benchmarks.analytics_run
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.anomaly
	$(BIN)/python -m benchmarks.insight
	$(BIN)/python -m benchmarks.refusals

screenshots: $(VENV)/.ready
	$(BIN)/python -m tests.screenshots

$(VENV)/.ready: requirements-dev.lock
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

# Locks hold hashes and no addresses; needs uv on the PATH. The image builds the wheel with what the tests build it with.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q
lock:
	$(COMPILE) --extra embedded --extra imap --extra tracing pyproject.toml -o requirements.lock
	$(COMPILE) --extra dev pyproject.toml -o requirements-dev.lock
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(COMPILE) --constraints requirements-dev.lock - -o requirements-build.lock

clean:
	rm -rf $(VENV) data artefacts .mypy_cache .ruff_cache .pytest_cache
