# The commands of this project; `make` alone lists them.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
VENV_RAY := .venv-ray
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_RAY := $(VENV_RAY)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One thread a worker: two workers on two cores do not wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Files in the order of tests/conftest.py, the slow ones first.
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast test-ray lint format clean
.DELETE_ON_ERROR:

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED_DEV)  ## create .venv with everything for development

demo: $(INSTALLED)  ## install, then train, attribute, prune and report on real cells
	$(BIN)/gradgene study experiment=demo

test: $(INSTALLED_DEV)  ## the whole test suite, with or without ../shared
	$(PYTEST)

test-fast: $(INSTALLED_DEV)  ## the tests that take a few seconds at most
	$(PYTEST) -m "not slow"

test-ray: $(INSTALLED_RAY)  ## the tests of sweeps on Ray, in an environment of their own
	$(ONE_THREAD) $(VENV_RAY)/bin/python -m pytest -m ray tests/integration/test_sweeps_ray.py

lint: $(INSTALLED_DEV)  ## ruff and mypy, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED_DEV)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and builds; keeps .venv, .venv-ray and runs/
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gradgene needs Python 3.11 or newer: make PYTHON=/path/to/python")'
	$(PYTHON) -m venv $(VENV)

# Torch alone and first: see requirements/torch.txt.
$(INSTALLED): pyproject.toml requirements/torch.txt requirements/constraints.txt | $(BIN)/python
	$(PIP) install -c requirements/constraints.txt -r requirements/torch.txt
	$(PIP) install -c requirements/constraints.txt -e '.[enrichment]'
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) install -c requirements/constraints.txt -e '.[dev]'
	@touch $@

# Apart from .venv: the AWS clients of Ray's launcher and of the extra `census` exclude each other.
$(INSTALLED_RAY): pyproject.toml requirements/torch.txt requirements/ray.txt
	$(PYTHON) -m venv $(VENV_RAY)
	$(VENV_RAY)/bin/python -m pip --disable-pip-version-check install -r requirements/torch.txt
	$(VENV_RAY)/bin/python -m pip --disable-pip-version-check install -c requirements/ray.txt -e '.[ray]' hypothesis pytest
	@touch $@
