# `make demo`: everything set up, the main example run. `make test`: everything set up, every test run. `make docs`: the site, in target/site.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO ?= cargo

.PHONY: demo test lint docs setup clean

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
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps
	$(BIN)/python -m mypy
	cd target && ../$(BIN)/python -m mypy.stubtest optimium.runtime._native --ignore-missing-stub --allowlist ../tests/python/stubtest_allowlist.txt --ignore-unused-allowlist

$(VENV)/.docs-tools: $(BIN)/python requirements-docs.txt
	$(BIN)/python -m pip install --quiet -r requirements-docs.txt
	touch $@

# Every snippet of the pages is run by tests/python/test_guide.py.
docs: $(VENV)/.docs-tools
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) target
