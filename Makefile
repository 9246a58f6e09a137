# Two commands on a fresh machine: `make demo` and `make test`. Both create .venv on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := $(BIN)/audioflow run configs/demo.yaml

# Where bytecode is not kept, every process compiles what it imports anew: that took a second run of
# the demo from 3.5 to 8.7 s of CPU, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick rays slow bench docs lint types format lock clean help

help:
	@echo "make demo    set up, make a small corpus, run the whole flow, say where the report is"
	@echo "make test    set up, run the tests         make slow    run those that take minutes"
	@echo "make quick   only tests without Ray        make rays    only tests with a Ray"
	@echo "make lint    ruff, rules and format        make types   mypy"
	@echo "make bench   time embed against what its cores allow (CASE=name for one case)"
	@echo "make docs    write docs/recipe.md and cluster/grafana.json anew from the program"
	@echo "make format  let ruff rewrite the files    make clean   remove runs/, data/demo, data/bench"

# --no-compile: of the 28,000 files that would be compiled, for a minute, few are ever imported.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v[:2] >= (3, 11) else \
	  f"audioflow needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)
	$(DEMO)

test: quick rays

# Those without Ray, one thread each.
quick: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/contract

# Those with Ray, one Ray for each of two processes, which take a file at a time, the longest first
# (tests/conftest.py).
rays: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/e2e tests/ray

# What takes minutes: recordings of three hours in every format, a million clips.
slow: $(READY)
	$(BIN)/python -m pytest -m slow

# How close embed comes to what the cores allow; all cases take half an hour, one less than three minutes.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(CASE)

# The keys of a recipe, from the models that check one.
docs: $(READY)
	$(BIN)/python -m docs.make
	$(BIN)/python -m docs.grafana

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# After a dependency of pyproject.toml changed.
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --no-emit-index-url --no-header --no-annotate -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml cluster/image.in -c requirements.lock --python-version 3.11 --no-emit-index-url --no-header --no-annotate -o cluster/requirements.lock

clean:
	rm -rf runs data/demo data/bench
