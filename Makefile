# Every target is one line over glue; python -m glue --help has the rest.
PYTHON := .venv/bin/python
GLUE := $(PYTHON) -m glue

.DEFAULT_GOAL := help
.PHONY: help setup doctor demo day night status ask ingest adapters promote rollback export logs recipe pin bench test test-fast lint lock clean bench-training

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.txt scripts/make-venv.sh
	@bash scripts/make-venv.sh requirements.txt

.venv/ready-dev: requirements-dev.txt .venv/ready
	@bash scripts/make-venv.sh requirements-dev.txt && touch $@

setup: .venv/ready ## Check the machine, write secrets, get or build the images and models
	@$(GLUE) setup

doctor: .venv/ready ## Look at everything that days and nights need; changes nothing
	@$(GLUE) doctor

demo: .venv/ready ## Play the whole cycle on practice data: day, corrections, night, a better day, rollback
	@$(GLUE) demo

day: .venv/ready ## Bring up the chat and wait until it answers
	@$(GLUE) day

night: .venv/ready ## Learn from the team's ratings, keep what helps, leave the day serving
	@$(GLUE) night

status: .venv/ready ## Show the mode, what serves, and how the last night ended
	@$(GLUE) status

ask: .venv/ready ## Ask a question: make ask Q="What is the code of the harbor?"
	@$(GLUE) ask "$(Q)"

ingest: .venv/ready ## Keep the knowledge in step with a folder of PDFs: make ingest DIR=/srv/documents
	@$(GLUE) ingest "$(DIR)"

adapters: .venv/ready ## List the adapters and which one serves
	@$(GLUE) adapters

promote: .venv/ready ## Make an adapter serve: make promote ADAPTER=<name or base>
	@$(GLUE) promote "$(ADAPTER)"

rollback: .venv/ready ## What served before serves again
	@$(GLUE) rollback

export: .venv/ready ## A whole checkpoint of an adapter: make export ADAPTER=<name> FORM=merged, bf16 or nvfp4
	@$(GLUE) export "$(ADAPTER)" --form "$(or $(FORM),merged)"

logs: .venv/ready ## The last lines of a service: make logs SERVICE=vllm
	@$(GLUE) logs $(SERVICE)

recipe: .venv/ready ## Count what a recipe trains: make recipe RECIPE=team
	@$(GLUE) recipe show $(RECIPE) --json

bench-training: .venv/ready ## Time training steps on this machine: make bench-training ARGS="--tokens 1600 --tokens 8192"
	@$(GLUE) bench training $(ARGS)

clean: .venv/ready ## Remove the rehearsal: containers, volumes, state; never on a Spark
	@$(GLUE) clean

pin: .venv/ready ## Add its digest to every image in env/images.env, from its registry
	@$(GLUE) pin

bench: .venv/ready ## Measure this machine beside the case study: state/bench/report.html. The chat's model restarts
	@$(GLUE) bench all

test: .venv/ready-dev ## Everything, on the real stacks; takes about half an hour the first time
	@$(PYTHON) -m glue setup && $(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy && $(PYTHON) -m pytest tests

test-fast: .venv/ready-dev ## Under a minute, no Docker
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy && $(PYTHON) -m pytest tests/unit

lint: .venv/ready-dev ## Style and types only
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

lock: ## Resolve requirements*.in again, with hashes
	@for name in requirements requirements-dev; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $$name.in --output-file $$name.txt; done
