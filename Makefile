# Everything a stranger needs: `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= test,check
KEY := $(shell (cat pyproject.toml; echo '$(EXTRAS)') | sha256sum | cut -c1-16)
READY := $(VENV)/.ready-$(KEY)
OUT ?= runs/demo
export PYTHONUNBUFFERED := 1

.PHONY: help demo demo-train test check bench install clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# The environment is keyed by pyproject.toml and EXTRAS; the link to this checkout is renewed when it moved.
$(READY):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.ready-* && echo '$(CURDIR)' > $(VENV)/.linked && touch $@

install: $(READY) ## Create the environment in .venv (VENV=DIR for another place)
	@[ "$$(cat $(VENV)/.linked 2>/dev/null)" = '$(CURDIR)' ] || { \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . && \
	  echo '$(CURDIR)' > $(VENV)/.linked; }

demo: install ## Normal images to leaderboard on the embedded data, with the shipped model
	$(BIN)/harness demo --out $(OUT)

demo-train: install ## Train the shipped model again (over an hour on 2 cores)
	$(BIN)/python benchmarks/crops.py --out runs/crops/textures
	$(BIN)/sia-gen train --recipe textures-64 --data runs/crops/textures --out runs/textures-64

test: install ## Run the tests
	$(BIN)/python -m pytest

check: install ## Lint, formatting, types, which way the imports point, and what is declared
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: install ## Run the benchmarks (minutes); see benchmarks/
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove runs and caches of this checkout, not the environment
	rm -rf runs .pytest_cache .ruff_cache .mypy_cache
