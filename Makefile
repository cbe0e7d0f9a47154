# Everything a newcomer types. `make plan` and `make test` install what they need, once, into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: plan test check bench docs clean

plan: $(READY)  ## forecasts, orders and the chip to run on, from the bundled demand
	$(BIN)/sirdar plan --out plan

test: $(READY)  ## the fast tests, a process for each core and a thread for each process
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal

check: $(READY)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports

bench: $(READY)  ## re-run the cheap benchmarks, each writing its JSON under benchmarks/results
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/chips_energy.py

docs: $(READY)  ## regenerate what is generated: the CLI reference and the benchmark tables
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv plan dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sirdar needs Python 3.11 or newer: make PYTHON=python3.11 " + "plan")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
