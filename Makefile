# `make demo`: everything set up, the main example run. `make test`: everything set up, every test run.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO ?= cargo

.PHONY: demo test lint wheel setup clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.tools: $(BIN)/python requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

# Builds the wheel and installs it, as a user would.
setup: $(VENV)/.tools
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out target/wheels
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps target/wheels/*.whl

demo: setup
	$(BIN)/python examples/digits/classify.py

# Release throughout: kernels without optimisation are hopeless, and the wheel shares the build.
test: setup
	$(CARGO) test --release --locked --workspace
	$(BIN)/python -m pytest tests -q

lint: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(BIN)/python -m mypy
	cd target && ../$(BIN)/python -m mypy.stubtest optimium.runtime._native --ignore-missing-stub --allowlist ../tests/python/stubtest_allowlist.txt --ignore-unused-allowlist

clean:
	rm -rf $(VENV) target
