# Every target is one line over glue, bench or rehearsal; python -m glue --help has the rest.
PYTHON := .venv/bin/python
GLUE := $(PYTHON) -m glue
ROOMS := $(addprefix tests/,core clients machine serving operations night cli bench learning training images)

# What people type goes to a program in its environment, letter by letter: make would expand a $ in
# it, and a shell would run what stands between backticks.
TYPED := Q DIR FROM TO CHAT USER_ID ADAPTER FORM SERVICE RECIPE ARGS
$(foreach name,$(TYPED),$(eval export ARG_$(name) := $$(value $(name)))$(eval unexport $(name)))

.DEFAULT_GOAL := help
.PHONY: help setup doctor demo day night https stop schedule backup restore upgrade bundle load support status ask ingest dataset forget adapters promote rollback prune export logs recipe pin kill-study test test-long test-fast gate-study lint lock clean bench-training bench

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
	@$(PYTHON) -m rehearsal

day: .venv/ready ## Bring up the chat and wait until it answers; NEW=1: an empty one, where the chat is lost
	@$(GLUE) day $(if $(NEW),--new)

night: .venv/ready ## Learn from the team's ratings, keep what helps, leave the day serving
	@$(GLUE) night

https: .venv/ready ## The chat over HTTPS, by the names in HTTPS_NAMES
	@$(GLUE) https

stop: .venv/ready ## Stop everything, also a night that runs, until somebody says day
	@$(GLUE) stop

schedule: .venv/ready ## Days, nights and backups by the clock, from the site's hours; as root. CRON=1 for cron
	@$(GLUE) schedule install $(if $(CRON),--cron)

backup: .venv/ready ## Copy all that cannot be had again; nothing stops for it; NEW=1: into a folder with no earlier one
	@$(GLUE) backup $(if $(NEW),--new)

restore: .venv/ready ## Put a backup back, here or on a fresh machine: make restore FROM=<folder>
	@$(GLUE) restore $(if $(REPLACE),--replace)

upgrade: .venv/ready ## To another version, and back by itself if that does not serve: make upgrade TO=<tag or commit>
	@$(GLUE) upgrade

bundle: .venv/ready ## For a site without a network: make bundle TO=<new folder>, on a machine of the same kind
	@$(GLUE) bundle

load: .venv/ready ## Take in a bundle: make load FROM=<folder>, then make setup
	@$(GLUE) load

support: .venv/ready ## Pack what a helper needs to see, without secrets and nobody's words
	@$(GLUE) support

status: .venv/ready ## Show the mode, what serves, and how the last night ended
	@$(GLUE) status

ask: .venv/ready ## Ask a question: make ask Q="What is the code of the harbor?"
	@$(GLUE) ask

ingest: .venv/ready ## Keep the documents in step with a folder: make ingest DIR=/srv/documents; SKIP_BAD=1, YES=1 for timers
	@$(GLUE) ingest $(if $(SKIP_BAD),--skip-bad) $(if $(YES),--yes)

dataset: .venv/ready ## What tonight would learn, with a page to read through; changes nothing else
	@$(GLUE) dataset build

forget: .venv/ready ## Out of every dataset: make forget CHAT=<id>, or USER_ID=<id>
	@$(GLUE) forget

adapters: .venv/ready ## List the adapters and which one serves
	@$(GLUE) adapters

promote: .venv/ready ## Make an adapter serve: make promote ADAPTER=<name or base>
	@$(GLUE) promote

rollback: .venv/ready ## What served before serves again
	@$(GLUE) rollback

prune: .venv/ready ## Remove old adapters; never what serves or the last good ones
	@$(GLUE) prune

export: .venv/ready ## A whole checkpoint of an adapter: make export ADAPTER=<name> FORM=merged, bf16 or nvfp4
	@$(GLUE) export

logs: .venv/ready ## The last lines of a service: make logs SERVICE=vllm
	@$(GLUE) logs

recipe: .venv/ready ## Count what a recipe trains: make recipe RECIPE=team
	@$(GLUE) recipe show --json

bench-training: .venv/ready ## Time training steps on this machine: make bench-training ARGS="--tokens 1600 --tokens 8192"
	@$(PYTHON) -m bench training

clean: .venv/ready ## Remove the rehearsal: containers, volumes, state, images of other versions; never on a Spark
	@$(GLUE) clean

pin: .venv/ready ## Add its digest to every image in env/images.env, from its registry
	@$(GLUE) pin

kill-study: .venv/ready-dev ## After make demo: kill everything at every step of a night; about two hours
	@$(PYTHON) -m tests.e2e.killing

bench: .venv/ready ## Measure this machine beside the case study: state/bench/report.html. The chat's model restarts
	@$(PYTHON) -m bench all

test: .venv/ready-dev ## All but the longest, on the real stacks; about ten minutes, and twenty the first time
	@$(MAKE) --no-print-directory --jobs 2 setup lint && $(PYTHON) -m pytest tests -m "not long" --numprocesses 2 --no-loadscope-reorder

test-long: .venv/ready-dev ## What make test leaves out: bench on real parts, deaths, no network; an hour and a half at most
	@$(PYTHON) -m glue setup && $(PYTHON) -m pytest tests -m long

test-fast: .venv/ready-dev ## Two minutes, no Docker
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy && $(PYTHON) -m pytest tests/test_house.py $(ROOMS)

gate-study: .venv/ready-dev ## Many small nights of five kinds, and what the gate says of each; about an hour and a half
	@$(PYTHON) -m glue setup && $(PYTHON) -m glue day && $(PYTHON) -m tests.gate_study

lint: .venv/ready-dev ## Style and types only
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy

lock: ## Resolve requirements*.in again, with hashes
	@for name in requirements requirements-dev; do uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $$name.in --output-file $$name.txt; done
