# make             set up, run the pipeline, print the answer, Table 1 and the verdicts
# make plan        set up, say what the pipeline would train and what that costs here; runs nothing
# make show        set up, print all tables in the terminal, and what is missing
# make check       set up, lint, check types, run the fast tests (aim: 3 minutes)
# make test        set up, lint, check types, run all tests but those that make slow-test runs (aim: 10 minutes)
# make slow-test   set up, run the rest: the image, the page in a browser, LaTeX, kills, growth, emulated CPUs
# make bench-node  set up, time a NODE training step against the plain construction
# make bench-ddpm  set up, time the diffusion model against diffusers', and FID against torch-fidelity's command line
# make bench-gpu   time the CIFAR-10 networks on a GPU, in 9 minutes; python3 needs torch and NumPy, and no network
# make bench-gpu-wheels  set up, collect in wheels/ what else that needs, for PYTHON_VERSION=3.12, WITHOUT="scipy pillow"
# make bench-run   what `pipeline run` and `dvc repro` add to a stage, and both on 24 trainings
# make bench-robust  are the time test's verdicts the same with other seeds, other rounding, twice the steps? (half an hour)
# make image       build the container's image, say its size and what that took
# make image-test  test the image with a Docker engine
# make page-test   test the page of the results in a browser
# make chaos       kill DVC, then `pipeline run`, and their stages at 50 and 30 random moments; the outputs are those of an undisturbed run
# make audit       look both locks up among known vulnerabilities (needs the package index's database)
# make lock        pin pyproject.toml's dependencies anew in requirements.lock and requirements-audit.lock

PYTHON ?= python3
DOCKER ?= docker
IMAGE ?= timestep-embedding-benchmark
WORKERS ?= 2
VENV := .venv
SETUP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
.PHONY: all repro plan show setup check test slow-test lint image image-test page-test chaos audit lock clean bench-node bench-ddpm bench-gpu bench-gpu-wheels bench-run bench-robust

all: repro
	@python -m pipeline summary

repro: $(SETUP)
	@python -m pipeline recover
	python -m pipeline check --quiet
	python -m pipeline run

plan: $(SETUP)
	@python -m pipeline plan

show: $(SETUP)
	@python -m pipeline tables

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
	lint-imports
	mypy
	hadolint docker/Dockerfile

check: lint
	pytest --numprocesses $(WORKERS) --dist loadfile -m "not slow and not ci"

test: lint
	pytest --numprocesses $(WORKERS) --dist loadfile -m "not ci"

slow-test: $(SETUP)
	pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m ci

# Arguments of the build that may be set in the environment: another base image, mirrors of the package index.
BUILD_ARGS = $(foreach name,BASE_IMAGE PIP_INDEX_URL UV_DEFAULT_INDEX,$(if $($(name)),--build-arg $(name)))

image: VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image: REVISION = $(shell git describe --always --dirty --abbrev=12)
image:
	@start=$$(date +%s) && \
	$(DOCKER) build --file docker/Dockerfile --tag $(IMAGE) $(BUILD_ARGS) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(or $(REVISION),unknown) . && \
	$(DOCKER) image inspect --format '{{.Size}}' $(IMAGE) | \
		awk -v seconds=$$(($$(date +%s) - start)) '{ printf "$(IMAGE): %.1f GB, built in %d s\n", $$1 / 1e9, seconds }'

image-test: $(SETUP)
	.ci/engine pytest tests/test_image.py

page-test: $(SETUP)
	.ci/tools browser pytest tests/test_page.py

chaos: $(SETUP)
	PYTHONPATH=tests python -m chaos
	PYTHONPATH=tests python -m chaos --driver --kills 30

audit: $(SETUP)
	pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock --requirement requirements-audit.lock

bench-node: $(SETUP)
	python -m benchmarks.node_step --case C=64 --threads 2
	python -m benchmarks.node_step --case digits --threads 1 --steps 30

bench-ddpm: $(SETUP)
	python -m benchmarks.ddpm_step --case cifar10 --what training --threads 2 --steps 6
	python -m benchmarks.ddpm_step --case digits --threads 1 --steps 12
	python -m benchmarks.ddpm_step --case digits --threads 1 --steps 12 --compile
	python -m benchmarks.fid --images 256 --threads 2

# Without $(SETUP): where there is no network, nothing can be installed.
bench-gpu:
	$(PYTHON) -m benchmarks.gpu

bench-gpu-wheels: $(SETUP)
	python -m benchmarks.wheels $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) $(if $(WITHOUT),--without $(WITHOUT))

bench-run: $(SETUP)
	python -m benchmarks.driver
	python -m benchmarks.run

bench-robust: $(SETUP)
	python -m benchmarks.robust timetest --wide --processes 2

COMPILE = uv pip compile --system-certs --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
lock: $(SETUP)
	$(COMPILE) --output-file requirements.lock pyproject.toml --extra cluster --extra dev
	$(COMPILE) --output-file requirements-audit.lock --group audit --no-deps

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
