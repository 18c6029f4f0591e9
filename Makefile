# One command for each thing one does here. Every target can be run again at any time, and does
# nothing where nothing is to be done. CI runs `make lint` and `make test` and nothing else.

CARGO ?= cargo
PYTHON ?= python3
# For the program: make serve ARGS="--data 0.0.0.0:8080"
ARGS ?=
# Photographs instead of the renderer: make train DATA=folder, or DATA=folder/manifest.csv
DATA ?=
# The virtual environment of training: 6 GB, most of it PyTorch.
TRAINING := training/.venv

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup runtime runtime-gpu build serve test lint bench train validate test-training image image-test sbom clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## See that cmake, nasm, a C compiler and Python are there (as root: install them)
	@scripts/setup

runtime: setup ## Fetch ONNX Runtime, pinned by digest, into .runtime/
	@scripts/fetch-onnxruntime

runtime-gpu: setup ## Fetch ONNX Runtime for NVIDIA GPUs (CUDA=1: NVIDIA's libraries too), into .runtime/
	@scripts/fetch-onnxruntime --gpu $(if $(CUDA),--with-cuda)

build: setup ## Build the release binary
	$(CARGO) build --release --locked

serve: runtime build ## Build everything and serve the models in models/
	target/release/linesight serve $(ARGS)

test: runtime .venv/.stamp ## Run every test, with the real ONNX Runtime, Pillow, Prometheus, kubectl and nginx
	@scripts/setup --for-tests
	$(CARGO) build --locked
	$(CARGO) test --locked

lint: setup ## Check formatting, lints, documentation and licences
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --log-level error check licenses bans sources; \
	else \
	    echo "lint: cargo-deny is not installed; licences and sources not checked"; \
	fi

bench: runtime .venv/.stamp ## Measure, and write docs/benchmarks.md (QUICK=1: a look, in a minute)
	$(CARGO) bench --locked --bench preprocess --bench scheduler -- \
	    --noplot --warm-up-time 0.5 --measurement-time $(if $(QUICK),0.5,1.5)
	$(CARGO) bench --locked --bench end_to_end -- $(if $(QUICK),--quick)

train: build runtime $(TRAINING)/.stamp ## Make a version of the vial model: what is out of date of training/dvc.yaml
	PATH="$(CURDIR)/$(TRAINING)/bin:$$PATH" dvc \
	    $(if $(DATA),exp run --set-param "training/params.yaml:data.source=$(DATA)",repro) training/dvc.yaml

validate: build runtime $(TRAINING)/.stamp ## Judge the test pictures again with the served version; compare with its card
	$(TRAINING)/bin/python -m training.judge.validate

test-training: build runtime $(TRAINING)/.stamp ## Run the tests of training/
	$(TRAINING)/bin/python -m unittest discover -t . -s training/tests

image: ## Build the container image with docker, podman or buildah (ARGS="--target gpu": for NVIDIA GPUs)
	@scripts/image $(ARGS)

image-test: ## As root on Debian: build the image and try it, read-only and without privileges
	@scripts/image-test $(ARGS)

sbom: runtime ## Write a list of the server's parts (CycloneDX) to target/linesight.cdx.json
	@scripts/sbom

# training/.work stays: what is in it took hours.
clean: ## Remove everything that make made, but for training/.work
	$(CARGO) clean --quiet
	rm -rf .venv .runtime $(TRAINING)

# The Python of the tests. Rebuilt from nothing when the requirements change, so that what is
# installed is what is listed.
.venv/.stamp: $(wildcard tests/requirements.txt) | setup
	rm -rf .venv
	$(PYTHON) -m venv .venv
	@if [ -f tests/requirements.txt ]; then \
	    echo ".venv/bin/pip install -r tests/requirements.txt"; \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt; \
	fi
	@touch $@

$(TRAINING)/.stamp: training/requirements.txt | setup
	rm -rf $(TRAINING)
	$(PYTHON) -m venv $(TRAINING)
	$(TRAINING)/bin/python -m pip install --quiet --disable-pip-version-check -r training/requirements.txt
	@touch $@
