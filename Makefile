.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := $(VENV)/.uv/bin/uv --quiet pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes \
	--custom-compile-command 'make lock'
# Builds of torch for the CPU have hashes of their own, and are not on PyPI, whose build for Linux brings 3 GB of CUDA along.
UNLOCKED := $(patsubst %,--no-emit-package %,torch triton nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime \
	nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx cuda-toolkit cuda-bindings cuda-pathfinder)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.core ## Install, restore the bundled example, and print where the result is
	$(BIN)/redecode examples/parrots-q10.jpg --output demo.png --overwrite
	@echo "Compare examples/parrots-q10.jpg with $(CURDIR)/demo.png"

lint: $(VENV)/.dev ## Check format, lint, types and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, and the unit tests: about two minutes on two cores, for every commit
	$(BIN)/pytest -n auto --dist worksteal -m "not slow and not browser and not cluster"

test: lint ## lint, and every test
	$(BIN)/pytest -n auto --dist worksteal

format: $(VENV)/.dev ## Format the code and sort its imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --select I --fix .

bench: $(VENV)/.dev ## Measure quality on LIVE1 and BSDS500 val at QF 10 (needs REDECODE_DATA), and draw the tables
	$(BIN)/redecode bench --qf 10 --protocol gray
	$(BIN)/redecode bench --qf 10 --protocol colour
	$(BIN)/python bench/tables.py

mutate: $(VENV)/.dev ## Change single expressions of the product, and see whether the tests notice (hours; goes on where it was stopped)
	test -e .mutants/record.json || $(BIN)/python bench/mutate.py --record
	$(BIN)/python bench/mutate.py

man: $(VENV)/.dev ## Write the manual page redecode.1 from the commands' own help
	$(BIN)/python bench/man.py > redecode.1

torture: $(VENV)/.dev ## Mistreat the server, bulk and the reader for 20 minutes, and draw what they survived into docs/robustness.md
	$(BIN)/python bench/torture.py
	$(BIN)/python bench/tables.py

docs: $(VENV)/.docs ## Build the documentation with its API reference into site/
	$(BIN)/mkdocs build --strict

lock: $(VENV)/.uv ## Write requirements/*.txt anew: versions and hashes of what a server and a developer install
	$(LOCK) --extra web --output-file requirements/server.txt
	$(LOCK) --extra dev $(UNLOCKED) --output-file requirements/dev.txt

clean: ## Remove the virtual environment, the built documentation, the manual page and the result of demo
	rm -rf $(VENV) site redecode.1 demo.png

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.core

$(VENV)/.uv: | $(VENV)/bin/python
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet uv

.PHONY: help demo lint check test format bench mutate torture man docs lock clean
