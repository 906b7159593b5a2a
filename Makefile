# Needs python3.11 and make; every target sets up .venv by itself.
PYTHON ?= python3.11
# Set it to PyTorch's index of CPU wheels where pip would take the CUDA build of several GB.
TORCH_INDEX ?=
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The engine's own benchmarks; the others ask for data or a run.
BENCH ?= scale costs kernels encoding offline_scoring filters mutate_index
# Options of benchmarks/results.py.
RESULTS ?=
# Options of tests/mutants.
MUTANTS ?=

.PHONY: demo test mutants lint bench results clean

demo: $(READY)
	$(BIN)/python -m sparcode_cli.demo

# The large kernels are compiled first, once and untraced: under coverage, in two processes, they take three times as long.
test: $(READY)
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/query/test_answer.py
	$(BIN)/python -m pytest -n 2 --cov=sparcode --cov-report=term --cov-fail-under=90

# Over an hour: faults that a reviewer could overlook, one at a time in a copy of the tree, against the tests nearest to
# them; at least 95 % have to be caught. MUTANTS="--list", MUTANTS="--only 'kernel-*' --jobs 2" and the like choose.
mutants: $(READY)
	$(BIN)/python -m tests.mutants $(MUTANTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# About two hours of an idle machine, one of them for scale; BENCH="scale costs" and the like choose.
bench: $(READY)
	for name in $(BENCH); do $(BIN)/python benchmarks/$$name.py || exit 1; done

# Hours: docs/results.md and benchmarks/results/results.json; goes on where it was stopped. Data sets are looked for in
# SPARCODE_DATA; RESULTS="--list", RESULTS="--only main --seeds 0" and the like choose.
results: $(READY)
	$(BIN)/python benchmarks/results.py $(RESULTS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage coverage.xml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that no other package's range decides which build is taken.
$(READY): pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --no-deps $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	touch $@
