# Every task of the project. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help protos install lock up down status logs env key demo test test-fast check generate format bench bench-quick clean

BIN := .venv/bin
INSTALLED := .venv/.installed
# Tried in this order: the libraries are built for 3.11 to 3.13, and 3.11 is what everything was tried with.
PYTHONS ?= $(PYTHON) python3.11 python3.12 python3.13 python3

# What may be chosen on the command line or in the environment; the ports are GRPC_PORT, MLFLOW_PORT, AIRFLOW_PORT, BENTOML_PORT,
# VALKEY_PORT and POSTGRES_PORT, and 0 means any free one.
STATE ?= .stack
DAGS ?=
DATA ?=
FEAST ?=
# What may be chosen on the command line alone: terminals use one of these names themselves.
SERVICE :=
LINES := 50
FOLLOW :=
PYTEST :=
PARTS :=
SKIP :=
NAME :=
SCOPES :=

STACK := $(BIN)/python -m deploy.local --state "$(STATE)"
# Commands that look or end, and so install nothing.
INSTALLED_STACK = @test -x $(BIN)/python || { echo "Nothing is installed yet: make install" >&2; exit 1; }; $(STACK)
CHOICES = $(if $(DAGS),--dags "$(DAGS)") $(if $(DATA),--data "$(DATA)") $(if $(FEAST),--feast "$(FEAST)") \
  $(if $(GRPC_PORT),--port server=$(GRPC_PORT)) $(if $(MLFLOW_PORT),--port mlflow=$(MLFLOW_PORT)) \
  $(if $(AIRFLOW_PORT),--port airflow=$(AIRFLOW_PORT)) $(if $(BENTOML_PORT),--port bentoml=$(BENTOML_PORT)) \
  $(if $(VALKEY_PORT),--port valkey=$(VALKEY_PORT)) $(if $(POSTGRES_PORT),--port postgres=$(POSTGRES_PORT)) $(if $(TIMEOUT),--timeout $(TIMEOUT))

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {gsub(/\$$\$$/, "$$", $$2); printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install everything that requirements.lock pins into .venv

$(INSTALLED): requirements.lock client/pyproject.toml server/pyproject.toml
	@set -e; \
	if ! $(BIN)/uv --version >/dev/null 2>&1; then \
	  for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  test -n "$$found" || { echo "No Python 3.11, 3.12 or 3.13 with its venv module found. Install one, or name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "Making .venv with $$("$$found" --version)" >&2; "$$found" -m venv --clear .venv; \
	  awk '/^[a-z]/ {ours = /^uv==/} ours' requirements.lock > .venv/uv.txt; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
	fi; \
	echo "Installing what requirements.lock pins: about 1 GB, a few minutes the first time" >&2; \
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e client -e server; \
	$(BIN)/python -m compileall -q client/src server/src; \
	touch $@

lock: ## pin everything anew, after a change of a pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --group stack --group dev \
	  client/pyproject.toml server/pyproject.toml --no-emit-package ml-platform-sdk --no-emit-package ml-platform-server \
	  --no-annotate --custom-compile-command "make lock" -o requirements.lock

up: install ## start the real stack, or what is missing of it, and leave it running (DAGS=folder,folder DATA=folder FEAST=feature_store.yaml GRPC_PORT=50051 ...)
	@$(STACK) up $(CHOICES)

down: ## end the stack, whatever state it is in
	$(INSTALLED_STACK) down

status: ## tell how each service is
	$(INSTALLED_STACK) status

logs: ## show the ends of the logs (SERVICE=airflow LINES=50 FOLLOW=1)
	$(INSTALLED_STACK) logs --lines $(LINES) $(if $(SERVICE),--service "$(SERVICE)") $(if $(FOLLOW),--follow)

env: ## print export lines for a running stack: eval "$$(make -s env)"
	$(INSTALLED_STACK) env

key: ## make a further API key on a running stack (NAME=ann SCOPES=predictions:predict,models:read)
	@test -n "$(NAME)" -a -n "$(SCOPES)" || { echo "Whose key, and for what? make key NAME=ann SCOPES=predictions:predict,models:read (or SCOPES=all)" >&2; exit 1; }
	$(INSTALLED_STACK) key --name "$(NAME)" --scopes "$(SCOPES)"

demo: install ## a data scientist's day on the real stack: starts it, tells what happens, ends it
	@$(STACK) run $(CHOICES) -- $(BIN)/python examples/fraud_detection/demo.py

test: install ## run all tests, on a stack of their own (PYTEST=arguments)
	@$(BIN)/python -m scripts.run_tests $(PYTEST)

# What starts processes or databases, fits models, or draws months of events.
SLOW := local_stack supervisor pipelines examples store model_runner client/test_processes.py client/test_unreachable.py interceptors/test_idempotency.py serving/routing/test_replaced_versions.py
test-fast: install ## run the unit tests that start nothing and fit nothing, in under a minute
	@$(BIN)/pytest -q tests/unit $(addprefix --ignore=tests/unit/,$(SLOW)) $(PYTEST)

check: install ## lint, format, types, layers, contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy client/src/ml_platform server/src/ml_platform_server deploy examples scripts tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.contract lint breaking drift
	$(BIN)/python scripts/sync_api.py --check

protos: install ## put the files of google/api and google/rpc that the protos import into build/googleapis, for any language's compiler
	@$(BIN)/python -m scripts.contract imports

generate: install ## generate the stubs from the protos, and the client's synchronous API
	$(BIN)/python -m scripts.contract generate
	$(BIN)/python scripts/sync_api.py

format: install ## format code and protos
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/python -m scripts.contract format

bench: install ## measure everything and write benchmarks/results (PARTS=curve,peers or SKIP=steady; about 25 minutes)
	@$(BIN)/python -m benchmarks all $(if $(PARTS),--parts "$(PARTS)") $(if $(SKIP),--skip "$(SKIP)")

bench-quick: install ## measure for a few minutes, and fail where a figure is beyond its gate
	@$(BIN)/python -m benchmarks quick

clean: ## end the stack and remove its state
	@test ! -x $(BIN)/python || $(STACK) clean
