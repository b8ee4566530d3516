.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: $(VENV)/.core ## Install, restore the bundled example, and say where the result is
	$(BIN)/redecode examples/parrots-q10.jpg --output demo.png --overwrite
	@echo "Compare examples/parrots-q10.jpg with $(CURDIR)/demo.png"

test: $(VENV)/.dev ## Run the whole test suite, the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: $(VENV)/.dev ## Measure the paper's Tables 1 and 2 on LIVE1 and BSDS500 val (needs REDECODE_DATA) and draw the README's table
	$(BIN)/redecode bench --qf 10 --protocol gray
	$(BIN)/redecode bench --qf 10 --protocol colour

clean: ## Remove the virtual environment and what demo made
	rm -rf $(VENV) demo.png

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.core

.PHONY: help demo test bench clean
