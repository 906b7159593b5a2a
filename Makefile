# Needs python3.11 and make; every target sets up .venv by itself.
PYTHON ?= python3.11
# Where the CPU build of torch is looked for first; any other index or TORCH_INDEX=https://pypi.org/simple works too.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
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

# torch goes first and alone: the CPU build if it is found at TORCH_INDEX or in pip's own configuration, else any build.
$(READY): pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --retries 0 --timeout 30 --index-url $(TORCH_INDEX) $(TORCH) \
		|| $(BIN)/pip install --no-deps $(TORCH)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all]'
	touch $@
