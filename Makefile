# `make demo` and `make test` set themselves up in a fresh clone: a virtual environment in .venv, the pinned packages, the builds.
# PIP_ARGS are passed to pip; for instance, where torch would come with CUDA:
#   make test PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
MAPPED := isa assembler hdl sim model bitstreams

.PHONY: help demo test test-full test-gpu lint typecheck format bench docs pins prerequisites path-without-spaces clean distclean

help:
	@echo "make demo       a story from the simulated accelerator"
	@echo "make test       tests, lint, types and freshness of generated files"
	@echo "make test-full  the same with the slow tests;  make test-gpu: the Triton kernels, where there is a CUDA GPU"
	@echo "make bench      benchmarks; results go to bench/results"
	@echo "make lint       ruff and mypy only;  make format: apply ruff's format"
	@echo "make docs       generated pages;  make clean: builds and caches"

prerequisites:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "trilobit: expected Python 3.11 or later as $(PYTHON), got $$($(PYTHON) --version 2>&1); set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "trilobit: expected Python's venv module; install the package python3-venv" >&2; exit 1; }
	@for tool in g++ make perl; do command -v $$tool >/dev/null || \
	  { echo "trilobit: expected $$tool, found none; install the package $$tool" >&2; exit 1; }; done

$(BIN)/python: | prerequisites
	$(PYTHON) -m venv $(VENV)

# What cocotb's and Verilator's makefiles can't build in; all but the tests can.
path-without-spaces:
	@case "$(CURDIR)" in *" "*) echo "trilobit: expected a folder without spaces in its path for the tests, got $(CURDIR);" \
	  "move the clone, or try it with make demo" >&2; exit 1;; esac

# The demo needs no torch, so that it starts soon; the tests need everything.
$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what the demo needs (first time: a minute or two)"
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[rtl]"
	@touch $@

$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing packages for development (first time: some minutes)"
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.ready-demo

demo: $(VENV)/.ready-demo
	$(BIN)/trilobit demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory typecheck

# mypy does not know setuptools' folder mapping; a tree of links shows it the import package as it is installed.
typecheck: $(VENV)/.ready
	@rm -rf build/typecheck && mkdir -p build/typecheck/trilobit
	@for path in trilobit/*; do ln -s "$(CURDIR)/$$path" build/typecheck/trilobit/; done
	@for path in $(MAPPED); do ln -s "$(CURDIR)/$$path" build/typecheck/trilobit/; done
	cd build/typecheck && "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$(CURDIR)/.mypy_cache" -p trilobit

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: path-without-spaces lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not gpu"

test-full: path-without-spaces lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not gpu"

test-gpu: $(VENV)/.ready
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/.ready
	$(BIN)/python bench/rtl_speed.py
	$(BIN)/python bench/rtl_speed.py --core axi512 --geometry 2560/2/6912/3200
	$(BIN)/python bench/levers.py
	$(BIN)/python bench/paper.py
	$(BIN)/python bench/batch.py
	$(BIN)/python bench/batch.py --geometry tales --core ulx3s --memory ideal --memory sdram
	for geometry in 370m 1.3b 2.7b; do \
	  $(BIN)/trilobit bench rtl --geometry $$geometry --keep bench/results && \
	  $(BIN)/trilobit bench rtl --geometry $$geometry --memory ddr4-2400 --clock 300 --keep bench/results || exit 1; done
	$(BIN)/python bench/summary.py --write

# Tests fail if these pages are not what their sources say.
docs: $(VENV)/.ready
	$(BIN)/python -m trilobit.isa.docs
	$(BIN)/python -m trilobit.assembler.compiler.docs

pins: $(VENV)/.ready
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'

clean:
	rm -rf build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
