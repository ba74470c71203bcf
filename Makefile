# Two commands do everything, set-up included: `make demo` and `make test`.
# Needs Python 3.11 or newer and make, nothing else.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes: they needn't compile everything again, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
# Test processes at a time; more than cores, as tests wait, those of real processes most. Each collects all tests, which
# costs as much as many of them.
WORKERS ?= 3

.PHONY: help demo test lint supply audit lock unit acceptance others bench soak mutants docs sbom format clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/.cli  ## an agent that is killed half way, and goes on
	$(BIN)/python examples/research_agent.py

test: $(VENV)/.dev  ## everything CI runs
	$(MAKE) -j 3 lint supply $(VENV)/.compiled
	$(MAKE) unit
	$(MAKE) -j 2 acceptance others

lint: $(VENV)/.dev  ## formatting, lint, types (two checkers)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@echo "$(BIN)/mypy, $(BIN)/pyright"; \
		$(BIN)/mypy & mypy=$$!; $(BIN)/pyright; pyright=$$?; wait $$mypy && exit $$pyright

unit: $(VENV)/.compiled  ## all tests but those that kill processes
	$(BIN)/pytest -q -n $(WORKERS) --ignore tests/acceptance || \
		{ [ $$? = 1 ] && $(BIN)/python tests/once_more.py --ignore tests/acceptance; }

acceptance: $(VENV)/.dev $(VENV)/.browser  ## black-box tests with real processes and real kills
	$(BIN)/pytest -q -n $$(($(WORKERS) + 1)) -m acceptance tests/acceptance || \
		{ [ $$? = 1 ] && $(BIN)/python tests/once_more.py -m acceptance tests/acceptance; }

others: $(VENV)/.dev  ## the unit tests on the other supported Pythons of this machine
	$(BIN)/python tests/other_pythons.py

bench: $(VENV)/.bench  ## figures beside the raw limits and peers; PEERS=0: ours only; QUICK=1: some minutes
	$(BIN)/python -m benchmarks $(if $(filter 0,$(PEERS)),--no-peers) $(if $(filter-out 0,$(QUICK)),--quick)

soak: $(VENV)/.dev $(VENV)/.browser  ## many more kills, all of the engine on PostgreSQL, all unit tests on the other Pythons, a slow machine
	PERDURE_SOAK=1 $(BIN)/pytest -q -m acceptance -o faulthandler_timeout=3000 tests/acceptance
	PERDURE_SOAK=1 $(BIN)/python tests/other_pythons.py
	PERDURE_SOAK=1 $(BIN)/pytest -q -n 2 tests/storage tests/engine tests/power_loss tests/crash_everywhere
	PERDURE_TEST_HINTS=0 $(BIN)/pytest -q -n 2 tests/engine -k postgres
	PERDURE_CANARY=1 $(BIN)/pytest -q -n 2 -m "not acceptance"
	$(BIN)/python -m perdure.testing.simulation --seeds 10000 --jobs 2
	$(BIN)/python tests/mutants/hunt.py

docs: $(VENV)/.dev  ## the documentation as a site, in ./site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

mutants: $(VENV)/.dev  ## deliberate bugs, each of which a test must catch; writes docs/mutants.md
	$(BIN)/python tests/mutants/hunt.py

# The environment that is described has nothing in it but what was asked for, not even pip.
sbom:  ## what an installation consists of, as CycloneDX in dist/sbom.cdx.json; EXTRAS=cli,postgres: with these
	rm -rf .sbom && $(PYTHON) -m venv .sbom/tool && $(PYTHON) -m venv --without-pip .sbom/env && mkdir -p dist
	.sbom/tool/bin/python -m pip install -q 'cyclonedx-bom>=7'
	.sbom/tool/bin/python -m pip --python .sbom/env/bin/python install -q '.$(if $(EXTRAS),[$(EXTRAS)])'
	.sbom/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json .sbom/env/bin/python
	rm -rf .sbom

supply: $(VENV)/.dev  ## the audit, and the bill of materials; what is amiss outside of this tree is told, and fails nothing
	@$(MAKE) -s audit || echo "notice: the audit found something, see above; \`make audit\` fails until that is mended" >&2
	@timeout 240 $(MAKE) -s sbom || echo "notice: no bill of materials was made: the package index isn't reached" >&2

audit: $(VENV)/.dev  ## known vulnerabilities and licences of what dev.lock names
	@timeout 240 $(BIN)/python requirements/audit.py || [ $$? = 124 ]

lock: $(VENV)/bin/python  ## requirements/dev.lock anew: what `dev` needs, with hashes, for all supported Pythons
	rm -rf .lock && $(PYTHON) -m venv .lock && .lock/bin/python -m pip install -q uv
	.lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--quiet --upgrade --no-header --output-file requirements/dev.lock
	rm -rf .lock

format: $(VENV)/.dev  ## put the code into its standard form
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

clean:  ## remove everything that was set up
	rm -rf .venv* .sbom .lock dist .demo .mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Perdure needs Python 3.11 or newer; set one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && \
		  apt-get install -y -q python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.cli: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml requirements/dev.lock
	$(BIN)/python requirements/install.py
	@touch $@

# What tests import is compiled when it is first imported: once, before several processes do so at the same time.
$(VENV)/.compiled: $(VENV)/.dev
	@$(BIN)/pytest -q --collect-only >/dev/null || true  # what can't be imported is told by the tests themselves
	@touch $@

$(VENV)/.browser: $(VENV)/bin/python  # Chromium, for the dashboard's tests
	@command -v chromium chromium-browser google-chrome >/dev/null || [ -n "$$PERDURE_CHROMIUM" ] || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -y -q chromium; } || \
		echo "The dashboard's tests need Chromium: install it, or set PERDURE_CHROMIUM=/path/to/it" >&2
	@touch $@

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q -e '.[dev,bench]'
	@touch $@
