# make             set up, run the pipeline, print Tables 1 and 3 and the verdicts
# make plan        set up, say what the pipeline would train and what that costs here; runs nothing
# make test        set up, lint, check types, run the tests
# make bench-node  set up, time a NODE training step against the plain construction
# make bench-ddpm  set up, time the diffusion model against diffusers', and FID against torch-fidelity's command line
# make lock        pin pyproject.toml's dependencies anew in requirements.lock

PYTHON ?= python3
VENV := .venv
SETUP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
.PHONY: all repro plan setup test lint lock clean bench-node bench-ddpm

all: repro
	@cat reports/table1.md reports/table3.md reports/verdicts.md
	@echo "The full report: reports/README.md"

repro: $(SETUP)
	python -m pipeline check --quiet
	dvc repro

plan: $(SETUP)
	@python -m pipeline plan

setup: $(SETUP)

# uv comes first, from the same lock with the same hashes: it installs the rest several times faster than pip.
$(SETUP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: CPython 3.11 or newer is needed; try make PYTHON=python3.12" >&2; exit 1; }
	"$$($(PYTHON) -c 'import sys; print(sys._base_executable)')" -m venv --clear $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --system-certs --python $(VENV)/bin/python --require-hashes -r requirements.lock
	@touch $@

lint: $(SETUP)
	ruff check .
	ruff format --check .
	mypy

test: lint
	pytest

bench-node: $(SETUP)
	python -m benchmarks.node_step --case C=64 --threads 2
	python -m benchmarks.node_step --case digits --threads 1 --steps 30

bench-ddpm: $(SETUP)
	python -m benchmarks.ddpm_step --case cifar10 --what training --threads 2 --steps 6
	python -m benchmarks.ddpm_step --case digits --threads 1 --steps 12
	python -m benchmarks.ddpm_step --case digits --threads 1 --steps 12 --compile
	python -m benchmarks.fid --images 256 --threads 2

lock: $(SETUP)
	uv pip compile --system-certs pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
