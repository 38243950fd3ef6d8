# `make demo`: everything set up, the main example run. `make test`: everything set up, every test run. `make docs`: the site, in target/site.
# `make loom`, `make asan`, `make test-aarch64`: checks of the core that docs/checks.md describes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO ?= cargo

.PHONY: demo test loom asan test-aarch64 lint docs setup clean

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

# The hand-made synchronization in every order of its threads, within bounds.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --release --locked --target-dir target/loom -p optimium-sync --lib

# The crates with kernels and plans, without what needs an interpreter.
CORE := $(addprefix -p optimium-,tensor sync simd kernels native)

# The compiler has the sanitizer, behind a switch that stable releases lock. Kernels and plans are compiled without its checks, which
# the compiler does not get through there in reasonable time.
CHECKED := $(addprefix optimium-,sync tensor device runtime)
SANITIZER := $(foreach crate,$(CHECKED),--config 'profile.release.package.$(crate).rustflags=["-Zsanitizer=address"]')
asan:
	RUSTC_BOOTSTRAP=1 $(CARGO) test -Zprofile-rustflags $(SANITIZER) --release --locked --target-dir target/asan \
		--target x86_64-unknown-linux-gnu $(addprefix -p ,$(CHECKED)) --lib --tests

# NEON in an emulator; on an AArch64 machine `make test` does the same.
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER = qemu-aarch64 -L /usr/aarch64-linux-gnu
test-aarch64:
	{ command -v qemu-aarch64 && command -v aarch64-linux-gnu-gcc; } >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross; }
	rustup target list --installed | grep -q aarch64-unknown-linux-gnu || rustup target add aarch64-unknown-linux-gnu
	$(CARGO) test --release --locked --target-dir target/aarch64 --target aarch64-unknown-linux-gnu $(CORE) --lib --tests

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
