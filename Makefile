# The tools of .venv where there is one, else those on the PATH.
BIN = $(if $(wildcard .venv/bin/python),.venv/bin/)

.PHONY: help setup test slow check format bench soak wheel clean

help:  ## list the chores
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r chore line; do \
		printf '%-8s %s\n' "$$chore" "$$line"; done

setup:  ## create .venv with the package (editable) and all tools
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet -e '.[dev]'

test:  ## run the fast tests
	$(BIN)pytest

slow:  ## run the slow tests
	$(BIN)pytest -m slow

check:  ## lint, formatting, types, layers
	$(BIN)ruff check
	$(BIN)ruff format --check
	$(BIN)mypy
	$(BIN)lint-imports

format:  ## format the code and repair what lint can repair
	$(BIN)ruff format
	$(BIN)ruff check --fix

bench:  ## run the benchmarks
	$(BIN)python -m benchmarks

soak:  ## half an hour of mixed load with kills and pauses, judged in the end
	$(BIN)python -m benchmarks.soak

wheel:  ## build the wheel into dist/
	$(BIN)python -m build --wheel

clean:  ## remove what the tools left behind
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
