# `make demo` and `make test` set everything up by themselves. `make` lists the rest.
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

.PHONY: help setup demo test test-numerical lint format bench ui sync lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

setup: .venv/installed ## install what requirements.lock pins into .venv, and pull the sample

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	"Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		"uv==$$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)"
	VIRTUAL_ENV=.venv uv pip sync --compile-bytecode --require-hashes requirements.lock
	VIRTUAL_ENV=.venv uv pip install --quiet --no-deps --editable .
	@# The sample: some DVC commands (exp apply, checkout) want all that is tracked to be there.
	dvc pull --quiet --remote sample data.dvc
	@touch $@

# The same pipeline as `dvc repro`, on the embedded sample, small enough for two CPU cores.
DEMO := source=data/phantoms.zip tracking.experiment=demo \
	split.val.NORMAL=16 split.val.PNEUMONIA=40 split.test.NORMAL=16 split.test.PNEUMONIA=40 \
	$(foreach s,vgg16_transfer vgg16_scratch vgg16_gap resnet18_fc mobilenet_v2 mobilenet_v2_scratch,\
	$(addprefix systems.$(s).,weights=null image_size=32 batch_size=32)) \
	$(foreach p,vgg16_transfer.phases.train vgg16_scratch.phases.train resnet18_fc.phases.train \
	mobilenet_v2_scratch.phases.train vgg16_gap.phases.features vgg16_gap.phases.finetune \
	mobilenet_v2.phases.features mobilenet_v2.phases.finetune,systems.$(p).epochs=1) \
	$(addprefix systems.cnn.,image_size=64 batch_size=4 phases.clean.epochs=12 \
	phases.clean.learning_rate=0.0003 phases.clean.steps_per_epoch=null \
	phases.perturbed.epochs=6 phases.perturbed.steps_per_epoch=null)

# Before the first rebuild there is no dvc.lock, and DVC warns of each output that it cannot restore.
# TensorFlow tells of the GPU that is not there before its log level counts.
NOISE := No file hash info found|absl::InitializeLog|cudart_stub|cuda_platform

demo: setup ## run the whole pipeline on the embedded sample, offline, as experiment `demo`
	@echo "Offline there are no ImageNet weights: in this demo every system starts from random ones."
	@dvc exp remove --quiet demo 2> /dev/null || true
	dvc exp run --temp --name demo $(addprefix -S ,$(DEMO)) \
		2> >(grep --line-buffered --invert-match --extended-regexp "$(NOISE)" >&2)
	@dvc get --quiet --force --rev demo --out demo . reports
	@cat demo/comparison.txt
	@echo "Report: demo/index.html   Runs: make ui   Experiment: dvc exp show; dvc exp apply demo"

test: setup ## run the tests
	python -m pytest

# What depends on arithmetic. CI runs it once more, with one thread and without oneDNN.
NUMERICAL := tests/test_augment.py tests/models tests/training tests/evaluation

test-numerical: setup ## run the tests that depend on arithmetic
	python -m pytest -k "not jax" $(NUMERICAL)

lint: setup ## check format, style, types, import order
	ruff format --check
	ruff check
	mypy
	lint-imports

format: setup ## put the code into format
	ruff format
	ruff check --fix

bench: setup ## measure what README's figures claim
	python -m benchmarks.augmentation

ui: setup ## start the MLflow UI
	@cxr ui --port $(PORT)

sync: setup ## send to MLflow the runs that it lacks, from the outputs
	cxr sync

lock: setup ## pin the versions anew, from pyproject.toml
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --upgrade --quiet --output-file requirements.lock

clean: ## remove the environment; data, results and MLflow's files stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
