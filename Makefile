# Works on a bare Debian or Ubuntu with git, make and python3 (>= 3.11, with venv).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := lrsearch tests benchmarks docs docker
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-all check chaos format clean

demo: $(VENV)/.installed ## make a virtual environment, install, and run the main job
	$(BIN)/lrsearch run --trials 50

test: $(VENV)/.installed-test ## install what the tests need and pass those that are quick
	$(BIN)/python -m pytest -m "not slow" -n 2

test-all: $(VENV)/.installed-test ## all tests: kills, clusters, browsers, two hosts, long searches too
	$(BIN)/python -m pytest -n 3 # on two cores: many tests wait for leases, servers and browsers

check: $(VENV)/.installed-dev ## format, lint, types, contracts
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.installed-test ## kill workers for seven minutes and look whether anything is lost
	$(BIN)/python benchmarks/chaos.py --minutes 6

format: $(VENV)/.installed-dev ## rewrite what the formatter and the linter can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"lrsearch needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# PyTorch and torchvision are the standard wheels, installed together (about 6 GB, a minute or two).
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed
