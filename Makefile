# `make demo` and `make test` also set everything up. `make` lists all targets.
PYTHON ?= python3
PORT ?= 5000

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# DVC starts the stages with the `python` that comes first on PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Without bytecode `import tensorflow` takes 16 s instead of 5.5, in every stage.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport PYTHONHOME

.PHONY: help setup demo test test-numerical fuzz lint format bench soak results ui sync check lock \
	clean-checkpoints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

setup: .venv/installed ## install requirements.lock into .venv, and pull the sample

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	"Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		"uv==$$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)"
	VIRTUAL_ENV=.venv uv pip sync --compile-bytecode --require-hashes requirements.lock
	VIRTUAL_ENV=.venv uv pip install --quiet --no-deps --editable .
	@# Some DVC commands (exp apply, checkout) fail if tracked data, here the sample, is missing.
	dvc pull --quiet --remote sample data.dvc
	@touch $@

# Offline: make demo WEIGHTS=path
demo: setup ## run the pipeline on the embedded sample, as experiment `demo`: is transfer worth it?
	@python -m tools.demo $(if $(WEIGHTS),--weights "$(WEIGHTS)")

# A worker per core, but no more than memory holds: one with TensorFlow takes up to 3 GB.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

test: setup ## run the tests
	python -m pytest $(PARALLEL)

# CI runs these tests a second time, with one thread and without oneDNN.
NUMERICAL := tests/test_augment.py tests/models tests/training tests/evaluation

test-numerical: setup ## run the tests that depend on floating-point arithmetic
	python -m pytest $(PARALLEL) -k "not jax" $(NUMERICAL)

TIMES ?= 20

fuzz: setup ## try TIMES (20) times as many hostile inputs as the tests, new ones each time
	CXR_FUZZ=$(TIMES) python -m pytest tests/hostile

lint: setup ## check format, style, types and import order
	ruff format --check
	ruff check
	mypy
	lint-imports

format: setup ## format the code
	ruff format
	ruff check --fix

# make bench BENCHMARKS="step feeding" BENCH_ARCHIVE=kermany-224.zip BENCH_WEIGHTS=folder
# By default every benchmark that takes the common arguments: all but the soak.
BENCHMARKS ?= $(basename $(notdir $(shell grep -l 'measure.parser(__doc__)' benchmarks/*.py)))

bench: setup ## run all BENCHMARKS and render benchmarks/README.md
	for name in $(BENCHMARKS); do python -m benchmarks.$$name \
		$(if $(BENCH_ARCHIVE),--archive "$(BENCH_ARCHIVE)") $(if $(BENCH_WEIGHTS),--weights "$(BENCH_WEIGHTS)"); done
	python -m benchmarks.readme

soak: setup ## kill the train stage 200 times and compare its results
	python -m benchmarks.soak --kills 200
	python -m benchmarks.readme

results: setup ## write the tables and plots of README and docs from results/
	@python -m tools.results.render

ui: setup ## start the MLflow UI
	@cxr ui --port $(PORT)

sync: setup ## log the runs that MLflow lacks, of every revision and experiment that DVC has
	cxr sync --all

check: setup ## verify DVC's cache and the outputs, file by file
	@cxr check

lock: setup ## update requirements.lock from pyproject.toml
	uv pip compile pyproject.toml --extra team --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --upgrade --quiet --output-file requirements.lock

clean-checkpoints: ## remove all checkpoints: killed trainings then start from the beginning
	rm -rf checkpoints

clean: ## remove the environment; data, results and MLflow's files stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
