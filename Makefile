# `make help` lists the targets. Everything that CI runs is `make test`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What is built and downloaded lies outside of the checkout, so that a fresh clone finds it again.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lacus
export CARGO_TARGET_DIR ?= $(CACHE)/target
VENV := $(CACHE)/venv
BENCH_VENV := $(CACHE)/bench-venv
PYTHON := $(VENV)/bin/python
WHEELS := $(CARGO_TARGET_DIR)/wheels
TPCH := $(CACHE)/tpch
BIN := $(CARGO_TARGET_DIR)/debug

# The SQL tests of DataFusion, and the tests of Flight SQL of others.
CORPUS := $(CACHE)/corpus-sql/test_files
ALTERTABLE := $(CACHE)/altertable

.PHONY: help setup demo test access-matrix enforcement federation conformance bench soak fuzz fuzz-guided sql fmt wheel build dist tpch-answers docs screenshots agent-run

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: ## Install what a fresh machine lacks: a C compiler, Python packages, test data
	@bash .ci/setup "$(CACHE)"

build: setup ## Build the command, the server and the test servers
	cargo build --workspace --locked

wheel: setup ## Build the Python wheel in the profile of the tests, and install it beside them
	cd python && $(VENV)/bin/maturin build --locked --profile dev --quiet --out $(WHEELS)
	$(PYTHON) -m pip install --quiet --force-reinstall --no-deps $(WHEELS)/lacus-*.whl

demo: build wheel ## Answer one question over a bucket and a lab folder: from the command line, over Flight SQL and from Python
	LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed LACUS_PYTHON=$(PYTHON) bash testdata/demo

test: build wheel ## Everything that CI runs
	cargo fmt --all --check
	$(PYTHON) .ci/house_rules.py
	cargo fetch --locked --quiet
	$(CACHE)/tools/bin/cargo-deny --log-level error --offline check bans licenses sources
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cd python && $(VENV)/bin/mypy --cache-dir $(CACHE)/mypy
	$(PYTHON) sql/tpch/answers.py $(TPCH)/sf0.01 --check
	LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed LACUS_PYTHON=$(PYTHON) bash testdata/demo > /dev/null
	LACUS_DOORS=embedded,flight,python,cli LACUS_PYTHON=$(PYTHON) LACUS_BIN=$(BIN)/lacus LACUS_TPCH=$(TPCH)/sf0.01 \
	  LACUS_CORPUS=$(CORPUS) LACUS_CORPUS_ONLY=array/ cargo test --workspace --locked --quiet
	cd $(CARGO_TARGET_DIR)/debug/examples && ./add_a_format && ./embed > /dev/null
	$(PYTHON) testdata/corpus/compare.py testdata/arrays
	LACUS_TPCH=$(TPCH)/sf0.01 LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed LACUS_NPM=$(CACHE)/npm LACUS_ALTERTABLE=$(ALTERTABLE) LACUS_HARLEQUIN=$(CACHE)/harlequin LACUS_MCP1=$(CACHE)/mcp1 \
	  $(VENV)/bin/pytest -q -p no:cacheprovider python/tests

access-matrix: build wheel ## Principals x tables x doors x ways of asking: how many cases, and how many leaks
	LACUS_DOORS=python,cli LACUS_PYTHON=$(PYTHON) LACUS_BIN=$(BIN)/lacus \
	  cargo test --workspace --locked --quiet --test access -- --nocapture

enforcement: build wheel ## Take away each point at which a policy, an identity or a limit holds: a test must fail for each
	LACUS_NPM=$(CACHE)/npm $(PYTHON) .ci/enforcement

conformance: build ## Every SQL test of DataFusion through a server: what passes, what fails and why
	LACUS_CORPUS=$(CORPUS) cargo test --workspace --locked --quiet --test corpus

dist: ## Build the wheel, the static command and what belongs to them, and run both on Debian 11 without a network (PROFILE=release; by root)
	bash .ci/dist "$(CACHE)" $(or $(PROFILE),release)

sql: setup ## Run one SQL test: make sql FILE=files/hive
	LACUS_TPCH=$(TPCH)/sf0.01 cargo test --workspace --locked --quiet --test sql -- $(FILE)

docs: ## Write the reference pages that are generated from the code
	LACUS_WRITE_REFERENCE=1 cargo test --workspace --locked --quiet --test reference

agent-run: build ## Record how an agent tests a hypothesis, through the SDK of the protocol: docs/agent-run.md
	LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed LACUS_WRITE_AGENT_RUN=1 $(VENV)/bin/pytest -q -p no:cacheprovider python/tests/test_agents.py -k recorded_run

screenshots: build wheel ## Make the pictures of the guide from the shell and a notebook; a browser draws the latter (apt-get install chromium)
	PATH="$(VENV)/bin:$$PATH" LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed $(PYTHON) docs/screenshots.py docs/images

tpch-answers: setup ## Write DuckDB's answers into sql/tpch
	$(PYTHON) sql/tpch/answers.py $(TPCH)/sf0.01

fmt: ## Format the Rust code
	cargo fmt --all

bench: setup ## Measure beside DuckDB, Polars and plain DataFusion; writes benches/results
	bash benches/run "$(CACHE)"

corpus: wheel ## Compare arrays with h5py, netCDF4, zarr and xarray; of public packages, writes benches/results/corpus.md (FILES="PATH ...")
	$(PYTHON) testdata/corpus/compare.py $(if $(FILES),$(FILES) --list,--corpus $(CACHE)/corpus --out benches/results/corpus.md)

federation: build wheel ## Generated queries over tables of three sites, beside one engine that holds all data (GENERATED=2000)
	LACUS_GENERATED=$(or $(GENERATED),2000) LACUS_TPCH=$(TPCH)/sf0.01 LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed \
	  $(VENV)/bin/pytest -q -p no:cacheprovider python/tests/test_federation.py

soak: build wheel ## 10,000 requests of 64 connections and ten minutes of load (SECONDS=600), after which a server is as it was; 200 killed writers (KILLS=200)
	LACUS_SOAK_REQUESTS=10000,64 LACUS_SOAK_WAITS=1 cargo test --workspace --locked --quiet --test soak -- --nocapture
	LACUS_KILLS=$(or $(KILLS),200) LACUS_BIN=$(BIN)/lacus LACUS_TESTBED=$(BIN)/lacus-testbed \
	  $(VENV)/bin/pytest -q -p no:cacheprovider python/tests/test_adbc.py -k killed
	LACUS_BIN=$(BIN)/lacus $(PYTHON) benches/soak.py --seconds $(or $(SECONDS),600)

fuzz: setup ## Mutated messages, SQL, locations and lake files, a million rounds (ROUNDS=1000000)
	LACUS_FUZZ_ROUNDS=$(or $(ROUNDS),1000000) cargo test --workspace --locked --test fuzz --test behaviour --test mutated -- never mutated

# The fuzzer of the compiler is for nightly toolchains, unless a stable one is told that it is one.
fuzz-guided: setup ## Messages of clients that coverage guides, by cargo-fuzz (RUNS=1000000)
	[ -x $(CACHE)/tools/bin/cargo-fuzz ] || cargo install --quiet cargo-fuzz --version 0.13.2 --locked --root $(CACHE)/tools
	cargo run --locked --quiet -p lacus-fuzz --bin messages -- $(CACHE)/fuzz/messages
	RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz $(CACHE)/tools/bin/cargo-fuzz run --dev --sanitizer none \
	  --fuzz-dir crates/lacus-fuzz messages $(CACHE)/fuzz/messages -- -runs=$(or $(RUNS),1000000) -max_len=4096 -timeout=60
