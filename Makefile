# Needs python3.11 and make; every target sets up .venv by itself.
PYTHON ?= python3.11
# Set it to PyTorch's index of CPU wheels where pip would take the CUDA build of several GB.
TORCH_INDEX ?=
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/python -m sparcode_cli.demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --cov=sparcode --cov-report=term --cov-fail-under=90

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	for script in $(wildcard benchmarks/*.py); do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage coverage.xml
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that no other package's range decides which build is taken.
$(READY): pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --no-deps $(TORCH)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all]'
	touch $@
