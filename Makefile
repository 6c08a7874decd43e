# Every command of the project. `make` or `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUBS := build/stubs
PROTOS := $(shell find proto -name '*.proto')
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
export PYTHONPATH := $(CURDIR):$(CURDIR)/$(STUBS)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

$(VENV)/runtime: requirements/runtime.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing (on Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing packages into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/development: requirements/development.txt $(VENV)/runtime
	@echo "Installing development packages into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(STUBS)/stamp: $(PROTOS) $(VENV)/runtime
	@echo "Generating gRPC stubs ..."
	@rm -rf $(STUBS) && mkdir -p $(STUBS)
	@$(BIN)/python -m grpc_tools.protoc -Iproto -I$(SITE) --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
		--mypy_out=quiet:$(STUBS) --mypy_grpc_out=quiet:$(STUBS) $(PROTOS)
	@touch $@

.PHONY: stubs
stubs: $(STUBS)/stamp ## Generate the gRPC stubs from proto/

.PHONY: check
check: $(VENV)/development $(STUBS)/stamp ## Lint, types and import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: $(VENV)/development $(STUBS)/stamp ## Run every test on real stores
	$(BIN)/python -m pytest -n 2 --dist loadgroup
