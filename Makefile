# Everything here makes the environment it needs, in .venv, from Python 3.11 or newer and make alone.
#   make demo ARGS="--minutes 5"      ARGS goes to the command, here and in `make test`
#   make test ARGS="-m 'not slow'"    the tests that answer within a minute
#   make test JOBS=8                  in so many processes, 2 by default; each takes up to 2 GB
#   make test PYTHON=python3.12      the Python to build .venv with; a PyTorch it has is used, not downloaded again
#   make test VENV=/path/to/mine      another environment, made where it does not exist
#   make demo TORCH_INDEX=URL                an extra package index to take PyTorch from, such as one of CPU builds

PYTHON ?= python3
JOBS ?= 2
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.ready ## fetch a face generator, train on it without labels, sample masks, write a report
	$(BIN)/labels4free demo $(ARGS)

test: $(VENV)/.ready-test ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.ready-lint ## check style and formatting (`.venv/bin/ruff format` mends the latter)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

types: $(VENV)/.ready-lint ## check the types
	$(BIN)/python -m mypy

layers: $(VENV)/.ready-lint ## check which room imports which
	$(BIN)/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

site: $(VENV)/.ready-site ## make a site of the guides, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -d site

dist: $(VENV)/.ready-dist ## build what is released into dist/, install it elsewhere and try it
	rm -rf dist
	$(BIN)/python tools/distribution.py dist

docs: $(VENV)/.ready ## write the pages that are generated
	$(BIN)/python -m labels4free.cli.help_page > docs/cli-help.txt

clean: ## remove the environment and all caches
	rm -rf .venv build dist site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) tools/environment.py $(VENV)
	@touch $@

$(VENV)/.ready-%: pyproject.toml constraints.txt
	$(PYTHON) tools/environment.py $(VENV) $*
	@touch $@

.PHONY: help demo test lint types layers site dist docs clean
