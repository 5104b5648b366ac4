# Every target is one line over glue, bench or rehearsal; python -m glue --help has the rest.
PYTHON := .venv/bin/python
GLUE := $(PYTHON) -m glue
ROOMS := $(addprefix tests/,core clients machine serving operations peers night cli bench learning training images rehearsal)

# What people type goes to a program in its environment, literally: make would expand a $ in
# it, and a shell would run what stands between backticks.
TYPED := Q DIR FROM TO CHAT USER_ID ADAPTER FORM SERVICE RECIPE ARGS ACCEPT DROP HOST
$(foreach name,$(TYPED),$(eval export ARG_$(name) := $$(value $(name)))$(eval unexport $(name)))

.DEFAULT_GOAL := help
.PHONY: help setup setup-peer doctor demo day night https stop schedule backup restore upgrade bundle load support status ask ingest notes dataset forget adapters promote rollback prune export logs admin-password recipe pin kill-study learning-study test test-long test-fast gate-study lint lock clean bench-training bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.txt scripts/make-venv.sh
	@bash scripts/make-venv.sh requirements.txt

# order-only: each of these installs more into the same .venv, and so touches .venv/ready
.venv/ready-bench: requirements-bench.txt | .venv/ready
	@bash scripts/make-venv.sh requirements-bench.txt && touch $@

.venv/ready-dev: requirements-dev.txt requirements.txt | .venv/ready
	@bash scripts/make-venv.sh requirements-dev.txt && touch $@

setup: .venv/ready ## Check the machine, write secrets, get or build the images and models
	@$(GLUE) setup

setup-peer: .venv/ready ## Make another Spark a peer of this one: make setup-peer HOST=<name or user@name>
	@$(GLUE) peer add

doctor: .venv/ready ## Check everything that days and nights need; changes nothing
	@$(GLUE) doctor

demo: .venv/ready-bench ## Play the whole cycle on a small model: day, corrections, night, better day, rollback
	@$(PYTHON) -m rehearsal

day: .venv/ready ## Start the chat and wait until it answers; NEW=1: an empty one, after the chat is lost
	@$(GLUE) day $(if $(NEW),--new)

night: .venv/ready ## Train on the team's ratings, keep the adapter if it helps, serve the day
	@$(GLUE) night

https: .venv/ready ## Serve the chat over HTTPS under HTTPS_NAMES
	@$(GLUE) https

stop: .venv/ready ## Stop everything, also a running night, until make day
	@$(GLUE) stop

schedule: .venv/ready ## Install timers for days, nights and backups; as root. CRON=1 for cron
	@$(GLUE) schedule install $(if $(CRON),--cron)

backup: .venv/ready ## Back up chats, documents, adapters and settings while the chat runs; NEW=1: a new series, or a smaller chat
	@$(GLUE) backup $(if $(NEW),--new)

restore: .venv/ready ## Restore a backup: make restore FROM=<folder>; REPLACE=1 over an existing chat
	@$(GLUE) restore $(if $(REPLACE),--replace)

upgrade: .venv/ready ## Change the version, and return if it does not serve: make upgrade TO=<tag or commit>
	@$(GLUE) upgrade

bundle: .venv/ready ## Write a bundle for a site without a network: make bundle TO=<new folder>
	@$(GLUE) bundle

load: .venv/ready ## Load a bundle: make load FROM=<folder>, then make setup
	@$(GLUE) load

support: .venv/ready ## Pack settings, states and logs for support, without secrets or chats
	@$(GLUE) support

status: .venv/ready ## Show the mode, what serves, and how the last night ended
	@$(GLUE) status

ask: .venv/ready ## Ask a question: make ask Q="What is the code of the harbor?"
	@$(GLUE) ask

ingest: .venv/ready ## Make the documents match a folder: make ingest DIR=/srv/documents; SKIP_BAD=1, YES=1 for timers
	@$(GLUE) ingest $(if $(SKIP_BAD),--skip-bad) $(if $(YES),--yes)

notes: .venv/ready ## Make notes of corrections now, and list them; ACCEPT=<id> or DROP=<id> decides about one
	@$(GLUE) notes

dataset: .venv/ready ## Build tonight's data set, with a page to read; changes nothing else
	@$(GLUE) dataset build

forget: .venv/ready ## Remove a chat or a person from every data set: make forget CHAT=<id> or USER_ID=<id>
	@$(GLUE) forget

adapters: .venv/ready ## List the adapters and which one serves
	@$(GLUE) adapters

promote: .venv/ready ## Make an adapter serve: make promote ADAPTER=<name or base>
	@$(GLUE) promote

rollback: .venv/ready ## Serve what served before
	@$(GLUE) rollback

prune: .venv/ready ## Remove old adapters, except what serves and the last good ones
	@$(GLUE) prune

export: .venv/ready ## Write an adapter as a whole checkpoint: make export ADAPTER=<name> FORM=merged, bf16 or nvfp4
	@$(GLUE) export

logs: .venv/ready ## Show the last lines of a service: make logs SERVICE=vllm
	@$(GLUE) logs

admin-password: .venv/ready ## Give the administrator the password in secrets.env again
	@$(GLUE) compose day -- exec -T open-webui python3 - < images/open-webui/admin_password.py

recipe: .venv/ready ## Count what a recipe trains: make recipe RECIPE=team
	@$(GLUE) recipe show --json

bench-training: .venv/ready-bench ## Time training steps: make bench-training ARGS="--tokens 1600 --tokens 8192"
	@$(PYTHON) -m bench training

clean: .venv/ready ## Remove a rehearsal: containers, volumes, state, images of other versions; refused on a Spark
	@$(GLUE) clean

pin: .venv/ready ## Pin every image in env/images.env to its digest
	@$(GLUE) pin

kill-study: .venv/ready-dev ## Kill everything at every step of a night; two hours
	@GLUE_PROFILE=rehearsal $(PYTHON) -m rehearsal && $(PYTHON) -m tests.e2e.killing

bench: .venv/ready-bench ## Measure this machine, in state/bench/report.html; the chat's model restarts
	@$(PYTHON) -m bench all

test: .venv/ready-dev ## Run all tests but the long ones, on the real stacks; ten minutes, twenty the first time
	@GLUE_PROFILE=rehearsal $(MAKE) --no-print-directory --jobs 2 setup lint && $(PYTHON) -m pytest tests -m "not long" --numprocesses 2 --no-loadscope-reorder

test-long: .venv/ready-dev ## Run the long tests: bench, kills, backup, no network; up to an hour and a half
	@GLUE_PROFILE=rehearsal $(GLUE) setup && $(PYTHON) -m pytest tests -m long

test-fast: .venv/ready-dev ## Run style, types and unit tests; two minutes, no Docker
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy && $(PYTHON) -m pytest tests/test_house.py $(ROOMS)

gate-study: .venv/ready-dev ## Play many small nights of five kinds and check the gate's verdicts; an hour and a half
	@export GLUE_PROFILE=rehearsal && $(GLUE) setup && $(GLUE) day && $(PYTHON) -m tests.gate_study

learning-study: .venv/ready-dev ## Play eighteen kinds of nights on a small real model: make learning-study FROM=<its folder>; hours without a GPU
	@$(PYTHON) -m tests.learning_study

lint: .venv/ready-dev ## Check style and types
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

lock: ## Resolve requirements*.in again, with hashes
	@for name in requirements requirements-bench requirements-dev; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $$name.in --output-file $$name.txt; done
