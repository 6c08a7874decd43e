# Every command of the project. `make` or `make help` lists them.
# They work in a folder of any name without a colon, which separates the entries of PYTHONPATH: make cannot quote, so
# whatever is named below is relative to the folder and plain.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUBS := build/stubs
UV := build/uv
PROTOS := $(shell find proto -name '*.proto')
SITE = $(shell $(BIN)/python -c 'import os, sysconfig; print(os.path.relpath(sysconfig.get_path("purelib")))')
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
COLLABORATION ?= 1
GATEWAYS ?= 1
export PYTHONPATH := $(CURDIR):$(CURDIR)/$(STUBS)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

$(VENV)/runtime: requirements/runtime.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || { echo "The venv module is missing (on Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing packages into $(VENV) ..."
	@$(INSTALL) -r $< || { echo "A package cannot be installed: is there a wheel for this machine, and a network?"; exit 1; }
	@touch $@

$(VENV)/development: requirements/development.txt $(VENV)/runtime
	@echo "Installing development packages into $(VENV) ..."
	@$(INSTALL) -r $<
	@touch $@

$(STUBS)/stamp: $(PROTOS) $(VENV)/runtime
	@echo "Generating gRPC stubs ..."
	@rm -rf $(STUBS).new && mkdir -p $(STUBS).new
	@$(BIN)/python -m grpc_tools.protoc -Iproto "-I$(SITE)" --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --python_out=$(STUBS).new --grpc_python_out=$(STUBS).new \
		--mypy_out=quiet:$(STUBS).new --mypy_grpc_out=quiet:$(STUBS).new $(PROTOS)
	@rm -rf $(STUBS) && mv $(STUBS).new $(STUBS)
	@touch $@

.PHONY: run
run: $(VENV)/runtime $(STUBS)/stamp ## Start the whole system; COLLABORATION=3 GATEWAYS=2 start that many, PROVIDER=oidc a login
	@exec $(BIN)/python -m deploy.embedded "COLLABORATION=$(COLLABORATION)" "GATEWAYS=$(GATEWAYS)" "PROVIDER=$(PROVIDER)"

.PHONY: demo
demo: $(VENV)/runtime $(STUBS)/stamp ## Two people, one diagram, one killed replica, nothing lost
	@exec $(BIN)/python -m deploy.demo

.PHONY: token
token: $(VENV)/runtime $(STUBS)/stamp ## Log in as the development user NAME=alice and print an access token
	@$(BIN)/python -m deploy.demo.login "$(or $(NAME),alice)" $(PROVIDER)

.PHONY: bench
bench: $(VENV)/development $(STUBS)/stamp ## Measure against bare parts and the last release; SAVE=1 keeps the figures
	@exec $(BIN)/python -m tests.load $(if $(SAVE),save)

.PHONY: stubs
stubs: $(STUBS)/stamp ## Generate the gRPC stubs from proto/

.PHONY: migration
migration: $(VENV)/runtime $(STUBS)/stamp ## Begin a migration; SERVICE=threat_model NAME=add_tags
	@$(BIN)/python -m services.shared.migrations "$(SERVICE)" "$(NAME)"

.PHONY: check
check: $(VENV)/development $(STUBS)/stamp ## Lint, types and import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: $(VENV)/development $(STUBS)/stamp ## Run every test on real stores
	$(BIN)/python -m pytest -n 2 --dist loadgroup

$(UV):
	@"$(PYTHON)" -m venv $(UV) && $(UV)/bin/python -m pip install --quiet --disable-pip-version-check uv

COMPILE = $(UV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links pyproject.toml

.PHONY: lock
lock: $(UV) ## Pin every package in requirements/ anew
	$(COMPILE) --extra embedded --output-file requirements/runtime.txt
	$(COMPILE) --extra embedded --extra development -c requirements/runtime.txt --output-file requirements/development.txt

.PHONY: clean
clean: ## Remove what was generated; .venv and the data in .tmi stay
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find gateway services deploy tests -name __pycache__ -prune -exec rm -rf {} +
