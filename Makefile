# What a person or a CI types. Everything here can be typed by hand; scripts/setup says what it does.

# The tests in a browser read this; scripts/setup installs Debian's.
export CHROMIUM ?= $(or $(shell command -v chromium || command -v chromium-browser || command -v google-chrome),/usr/bin/chromium)

CARGO_TARGET_DIR ?= target
SIGHTLINE := $(CARGO_TARGET_DIR)/release/sightline
MODEL ?= face
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-test build model run test lint unit ffmpeg doc budget soak bench clean-data

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the server needs (nasm, the ONNX Runtime), into .sightline/ where it can
	@scripts/setup run

setup-test: ## install what the tests need as well (Chromium, playwright-core, aiortc, mlserver, FFmpeg, cargo-nextest)
	@scripts/setup test

build: ## the release binary, target/release/sightline
	cargo build --release --locked

model: build ## pull the default model (MODEL=name for another)
	@$(SIGHTLINE) models pull $(MODEL) || \
	  echo "The model is not there: the server will use its built-in motion detector. 'make model' tries again." >&2

run: setup ## set up, build, pull the model and serve on http://127.0.0.1:8080 (ARGS="--listen …")
	@$(MAKE) --no-print-directory model
	@exec $(SIGHTLINE) serve $(ARGS)

test: setup-test ## set up, then every check that the project has
	@$(MAKE) --no-print-directory lint unit ffmpeg doc build budget soak
	@echo "All checks passed."

lint: ## formatting and clippy, warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --features cuda,tensorrt,openvino -- -D warnings

# The model is pulled by the binary that the tests are about to use, so that nothing is built twice.
unit: ## all tests but those in documentation, the ones in a browser included
	cargo build --locked --bins --tests --examples
	$(CARGO_TARGET_DIR)/debug/sightline models pull face
	SIGHTLINE_REQUIRE_BROWSER=1 cargo nextest run --locked

# In the same target directory, so that only FFmpeg's binding and the crate itself are built again.
ffmpeg: ## the decoder by FFmpeg: clippy and its tests, with the cargo feature of that name
	cargo clippy --locked --features ffmpeg --lib --bins --test ffmpeg -- -D warnings
	cargo nextest run --locked --features ffmpeg --test ffmpeg

doc: ## the examples in the documentation, and the documentation itself
	cargo test --locked --doc
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

budget: ## instructions of our part of a frame's way, against benches/budget.toml (callgrind)
	cargo bench --locked --bench instructions

soak: build ## two minutes of sessions that come and go over a bad link: nothing may grow or stay behind
	$(SIGHTLINE) bench --soak 2 -- --model motion

bench: setup ## the stages, by criterion; the browser's figures come from scripts/latency
	cargo bench --locked

clean-data: ## remove what set-up downloaded (.sightline, node_modules); builds stay
	rm -rf .sightline node_modules
